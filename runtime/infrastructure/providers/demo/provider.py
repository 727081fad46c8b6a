import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import chain
from typing import Any, cast

from runtime.domain.errors import EmbeddingModelNotFound, UpstreamRefused
from runtime.domain.events.runs import TextDelta, ToolCallDelta, UsageReported
from runtime.domain.services.models import EmbeddingCall, ModelCall, ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import ChatRole, FinishReason, ToolCall, Usage
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.infrastructure.egress import EgressClient
from runtime.infrastructure.providers.base import (
    OPENAI_EMBEDDING_MODELS,
    Connection,
    ProviderAdapter,
    number_option,
)
from runtime.infrastructure.providers.demo.calls import wanted_calls
from runtime.infrastructure.providers.demo.embeddings import DIMENSIONS, MAX_DIMENSIONS, vector
from runtime.infrastructure.providers.demo.schemas import as_text, instance
from runtime.infrastructure.providers.demo.talk import answer, counted, last_user_text, returned
from runtime.infrastructure.providers.demo.texts import Hints, count_words, named_keys, words
from runtime.infrastructure.providers.formats import EVERY_FORMAT

_MODEL = "demo"
_TURNS_OF_LOOP = 16
"""Tokens between two chances for others to run, where there is no delay."""


class DemoProvider(ProviderAdapter):
    """A model that needs nothing and always answers the same: for trying out and for tests."""

    type = "demo"
    usual_model = _MODEL
    usual_formats = EVERY_FORMAT
    option_names = frozenset({"token_delay_ms"})
    default_embedding_model = _MODEL
    embedding_models = frozenset({_MODEL, *OPENAI_EMBEDDING_MODELS})

    def __init__(self, egress: EgressClient, connection: Connection) -> None:
        super().__init__(egress, connection)
        self._delay_s = number_option(connection, "token_delay_ms", 0) / 1000

    async def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        limit = call.options.token_limit
        calls = wanted_calls(call.messages, call.options)
        deltas, reason = _calls(calls) if calls else _text(call)
        if limit is not None and len(deltas) > limit:
            deltas, reason = deltas[:limit], "length"
        if call.stream:
            for index, delta in enumerate(deltas):
                await self._pause(index)
                yield delta
        else:
            await asyncio.sleep(self._delay_s * len(deltas))
            for event in _joined(deltas):
                yield event
        yield UsageReported(Usage(counted(call.messages), len(deltas)), _MODEL)
        yield ModelFinished(reason, _MODEL, "fp_demo")

    async def embed(self, call: EmbeddingCall, model: str) -> Embeddings:
        if model not in self.embedding_models:
            raise EmbeddingModelNotFound(f"{self.name}/{model}")
        dimensions = call.dimensions or DIMENSIONS
        if dimensions > MAX_DIMENSIONS:
            raise UpstreamRefused(
                f"The demo model has at most {MAX_DIMENSIONS} dimensions.", param="dimensions"
            )
        vectors = []
        for each in call.inputs:
            await asyncio.sleep(0)
            vectors.append(vector(each, dimensions))
        tokens = sum(
            count_words(each) if isinstance(each, str) else len(each) for each in call.inputs
        )
        return Embeddings(vectors, model, Usage(input_tokens=tokens))

    async def _pause(self, index: int) -> None:
        if self._delay_s or index % _TURNS_OF_LOOP == 0:
            await asyncio.sleep(self._delay_s)


_Deltas = Sequence[TextDelta | ToolCallDelta]


def _text(call: ModelCall) -> tuple[_Deltas, FinishReason]:
    text = _before(_said(call), call.options.stop or ())
    return [_delta(word, call) for word in words(text)], "stop"


def _said(call: ModelCall) -> str:
    messages = call.messages
    after_tools = bool(messages) and messages[-1].role == ChatRole.TOOL
    text = returned(messages) if after_tools else answer(messages)
    form: Any = call.options.response_format or {}
    match form.get("type"):
        case "json_object":
            names = named_keys(last_user_text(messages)) or ["answer"]
            return as_text(dict.fromkeys(names, text))
        case "json_schema":
            hints = Hints.of(last_user_text(messages))
            hints.text = text
            schema = form.get("json_schema", {}).get("schema", {})
            return as_text(instance(schema, hints, optional=True))
        case _:
            return text


def _before(text: str, stops: Sequence[str]) -> str:
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends, default=None)]


def _delta(word: str, call: ModelCall) -> TextDelta:
    if not call.options.logprobs:
        return TextDelta(word)
    return TextDelta(word, _logprobs(word, call.options.top_logprobs or 0))


def _logprobs(word: str, alternatives: int) -> dict[str, Any]:
    token = {"token": word, "logprob": 0.0, "bytes": list(word.encode(errors="replace"))}
    certain = [token] if alternatives else []
    return {"content": [{**token, "top_logprobs": certain}], "refusal": None}


def _calls(calls: Sequence[ToolCall]) -> tuple[_Deltas, FinishReason]:
    deltas: list[TextDelta | ToolCallDelta] = []
    for index, call in enumerate(calls):
        deltas.append(ToolCallDelta(index, call.id, call.name))
        deltas += [ToolCallDelta(index, arguments=piece) for piece in _pieces(call.arguments)]
    return deltas, "tool_calls"


def _pieces(arguments: str) -> list[str]:
    pieces = words(arguments)
    return pieces if len(pieces) > 1 else [arguments[:1], arguments[1:]]


def _joined(deltas: _Deltas) -> list[ModelEvent]:
    """As a provider sends an answer in one piece."""
    texts = [delta for delta in deltas if isinstance(delta, TextDelta)]
    if texts:
        whole = "".join(delta.text for delta in texts)
        logprobs = [cast(list[object], each.logprobs["content"]) for each in texts if each.logprobs]
        tokens = {"content": list(chain.from_iterable(logprobs)), "refusal": None}
        return [TextDelta(whole, tokens if logprobs else None)]
    calls: dict[int, ToolCallDelta] = {}
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            begun = calls.get(delta.index, delta)
            arguments = begun.arguments + delta.arguments
            calls[delta.index] = ToolCallDelta(begun.index, begun.call_id, begun.name, arguments)
    return list(calls.values())
