"""For models that don't keep to a `response_format` by themselves: it is asked for in words."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import orjson

from runtime.domain.services.models import ModelCall
from runtime.domain.value_objects.chat import ChatRole, Message, TextPart

EVERY_FORMAT = frozenset({"json_object", "json_schema"})


def put_into_words(call: ModelCall, supported: Collection[str]) -> ModelCall:
    """`call` without a format that is not `supported`; JSON mode stays where it does no harm."""
    form: Mapping[str, Any] = call.options.response_format or {}
    kind = form.get("type")
    if kind not in EVERY_FORMAT or kind in supported:
        return call
    asked = form.get("json_schema", {})
    schema = asked.get("schema") or {}
    left = None
    if "json_object" in supported and schema.get("type") == "object":
        left = {"type": "json_object"}
    return replace(
        call,
        messages=_with_instructions(call.messages, _instructions(asked) if asked else _ANY_OBJECT),
        options=replace(call.options, response_format=left),
    )


_ANY_OBJECT = "Your final answer is one JSON object and nothing else: no other text, no code fence."


def _instructions(asked: Mapping[str, Any]) -> str:
    about = f" It is called {asked['name']}."
    if asked.get("description"):
        about += f" {asked['description']}"
    schema = orjson.dumps(asked.get("schema") or {}).decode()
    return (
        "Your final answer is one JSON value that fits the JSON Schema below and nothing else: no "
        f"other text, no code fence, no schema.{about}\n\n{schema}"
    )


def _with_instructions(messages: Collection[Message], text: str) -> list[Message]:
    """In the first system message: some models take only one."""
    first, *others = messages or [Message(ChatRole.SYSTEM)]
    if first.role not in (ChatRole.SYSTEM, ChatRole.DEVELOPER):
        return [Message(ChatRole.SYSTEM, text), *messages]
    if isinstance(first.content, str):
        joined = f"{first.content}\n\n{text}" if first.content else text
        return [replace(first, content=joined), *others]
    return [replace(first, content=(*first.content, TextPart(f"\n\n{text}"))), *others]
