"""Holds answers to OpenAI's own description of them: see `tests/openai_schemas`."""

import json
import re
from array import array
from base64 import b64decode
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests import openai_schemas

_SCHEMAS: dict[str, Any] = json.loads(
    (Path(openai_schemas.__file__).parent / "schemas.json").read_text()
)
_DOORS = re.compile(r"/v1/(chat|models|embeddings|responses|conversations)(/|$)")
_OBJECTS: Sequence[tuple[str, str, str]] = (
    ("POST", r"/v1/chat/completions", "CreateChatCompletionResponse"),
    ("GET", r"/v1/chat/completions", "ChatCompletionList"),
    ("GET|POST", r"/v1/chat/completions/[^/]+", "CreateChatCompletionResponse"),
    ("DELETE", r"/v1/chat/completions/[^/]+", "ChatCompletionDeleted"),
    ("GET", r"/v1/chat/completions/[^/]+/messages", "ChatCompletionMessageList"),
    ("GET", r"/v1/models", "ListModelsResponse"),
    ("GET", r"/v1/models/.+", "Model"),
    ("POST", r"/v1/embeddings", "CreateEmbeddingResponse"),
    ("POST", r"/v1/responses", "Response"),
    ("POST", r"/v1/responses/input_tokens", "TokenCountsResource"),
    ("POST", r"/v1/responses/compact", "CompactResource"),
    ("GET", r"/v1/responses/[^/]+", "Response"),
    ("POST", r"/v1/responses/[^/]+/cancel", "Response"),
    ("GET", r"/v1/responses/[^/]+/input_items", "ResponseItemList"),
    ("POST", r"/v1/conversations", "ConversationResource"),
    ("GET|POST", r"/v1/conversations/[^/]+", "ConversationResource"),
    ("DELETE", r"/v1/conversations/[^/]+", "DeletedConversationResource"),
    ("GET|POST", r"/v1/conversations/[^/]+/items", "ConversationItemList"),
    ("GET", r"/v1/conversations/[^/]+/items/[^/]+", "ConversationItem"),
    ("DELETE", r"/v1/conversations/[^/]+/items/[^/]+", "ConversationResource"),
)


def check(name: str, body: object) -> None:
    """Fails unless `body` is what OpenAI's schema of that name describes. More fields are fine."""
    problems = [_said(error) for error in _validator(name).iter_errors(body)]
    assert not problems, f"not OpenAI's {name}: {'; '.join(problems)}\n{json.dumps(body)[:2_000]}"


def check_chunk(chunk: dict[str, Any]) -> None:
    """One payload of a chat stream: a chunk, or the error that ends it."""
    name = "ErrorResponse" if "error" in chunk else "CreateChatCompletionStreamResponse"
    check(name, chunk)


def check_stream_event(event: dict[str, Any]) -> None:
    """One event of a Responses stream; its `type` picks the schema, so that failures are clear."""
    name = _events().get(event.get("type", ""))
    assert name, f"OpenAI has no stream event {event.get('type')!r}: {json.dumps(event)[:500]}"
    check(name, event)


def check_answer(method: str, path: str, status: int, body: bytes) -> None:
    """Any whole answer of an OpenAI route, JSON or a stream; other routes are let by."""
    if method == "HEAD" or status == 499 or not _DOORS.match(path):
        return
    name = _name(method, path)
    if status >= 400:
        check("ErrorResponse", json.loads(body))
    elif not body.startswith(b"{"):
        check_stream(body)
    elif name:
        check(name, _with_numbers(_without_platform_metadata(json.loads(body))))


def check_stream(body: bytes) -> None:
    """Every payload in the bytes of a stream, chat's or the Responses API's."""
    for line in body.decode().splitlines():
        if line.startswith("data: {"):
            payload = json.loads(line.removeprefix("data: "))
            if "type" in payload:
                check_stream_event(payload)
            else:
                check_chunk(_without_platform_metadata(payload))


class Conforming:
    """An ASGI app whose every answer is checked, whoever asked; `problems` says what was wrong."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.problems: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, body = 0, bytearray()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and _DOORS.match(scope["path"]):
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    self._check(scope, status, bytes(body))
            await send(message)

        await self._app(scope, receive, noted)

    def _check(self, scope: Scope, status: int, body: bytes) -> None:
        try:
            check_answer(scope["method"], scope["path"], status, body)
        except (AssertionError, ValueError) as problem:
            self.problems.append(f"{scope['method']} {scope['path']} {status}: {problem}")


def request_properties(name: str) -> set[str]:
    """What OpenAI's request schema of that name has fields for."""
    return set(_properties(_SCHEMAS[name]))


def _properties(schema: dict[str, Any]) -> Iterator[str]:
    yield from schema.get("properties", ())
    if "$ref" in schema:
        yield from _properties(_SCHEMAS[schema["$ref"].removeprefix("#/$defs/")])
    for part in schema.get("allOf", ()):
        yield from _properties(part)


def _name(method: str, path: str) -> str | None:
    for methods, pattern, name in _OBJECTS:
        if re.fullmatch(methods, method) and re.fullmatch(pattern, path):
            return name
    return None


def _without_platform_metadata(body: dict[str, Any]) -> dict[str, Any]:
    """The one field that means something else: docs/decisions/0005-metadata-in-chat-answers.md."""
    if "agent_id" in (body.get("metadata") or ()):
        return {key: value for key, value in body.items() if key != "metadata"}
    return body


def _with_numbers(body: dict[str, Any]) -> dict[str, Any]:
    """The schema has no word of `encoding_format: base64`, which every SDK asks for."""
    data = body.get("data")
    for each in data if isinstance(data, list) else ():
        if isinstance(each.get("embedding"), str):
            each["embedding"] = list(array("f", b64decode(each["embedding"], validate=True)))
    return body


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": _SCHEMAS})


@cache
def _events() -> dict[str, str]:
    names = [v["$ref"].removeprefix("#/$defs/") for v in _SCHEMAS["ResponseStreamEvent"]["anyOf"]]
    return {_type_of(_SCHEMAS[name]): name for name in names}


def _type_of(schema: dict[str, Any]) -> str:
    type = schema["properties"]["type"]
    return str(type["const"] if "const" in type else type["enum"][0])


def _said(error: ValidationError) -> str:
    """Of a union, what is wrong with the variant that comes nearest."""
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.AnyOf):
        fitting = [branch for branch in kind.context if not any(map(_other_kind, branch))]
        if fitting:
            return " or ".join(", ".join(map(_said, branch)) for branch in fitting[:3])
    where = ".".join(str(part) for part in error.instance_path) or "the body"
    return f"{where}: {error.message[:300]}"


def _other_kind(error: ValidationError) -> bool:
    """It is about something else altogether: another `type`, or null."""
    discriminating = error.instance_path[-1:] in (["type"], ["role"], ["object"])
    return discriminating or error.message.endswith('of type "null"')
