"""Chat completion chunks, read from the bytes as they come: the runtime's hottest loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.models import ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import FinishReason, Usage
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.infrastructure.providers.faults import Faults

_BROKEN_OFF = {
    "abort",
    "aborted",
    "cancelled",
    "error",
    "insufficient_system_resource",
    "network_error",
}
_REASONS: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
}
_CITED = {"start_index", "end_index", "url", "title"}
_loads = orjson.loads


@dataclass(slots=True)
class _Call:
    index: int
    id: str = ""
    name: str = ""
    held: str = ""
    """Arguments that came before the name."""


class Answer:
    """One answer: events out of payloads, and what is known about its end."""

    __slots__ = (
        "_by_wire_index",
        "_calls",
        "_faults",
        "_fingerprint",
        "_model",
        "_usage",
        "done",
        "pings",
        "reason",
    )

    def __init__(self, faults: Faults, model: str) -> None:
        self.done = False
        self.pings = 0
        self.reason: FinishReason | None = None
        self._faults = faults
        self._model = model
        self._fingerprint: str | None = None
        self._usage: Usage | None = None
        self._calls: list[_Call] = []
        self._by_wire_index: dict[int, _Call] = {}

    def take(self, payload: bytes) -> Iterator[ModelEvent]:
        """The deltas in one chunk, or in a whole answer. Raises a DomainError for an error."""
        try:
            chunk = _loads(payload)
        except orjson.JSONDecodeError:
            if payload.strip() != b"[DONE]":
                raise self._garbage() from None
            self.done = True
            return
        try:
            choices = chunk.get("choices")
            if choices:
                choice = choices[0]
                delta = choice.get("delta") or choice.get("message")
                if delta:
                    yield from self._deltas(delta, choice.get("logprobs"))
                reason = choice.get("finish_reason")
                if reason:
                    self._end(reason)
            if self._fingerprint is None:
                self._fingerprint = chunk.get("system_fingerprint")
                self._model = chunk.get("model") or self._model
            if chunk.get("usage"):
                self._usage = _usage(chunk["usage"]) or self._usage
            error = chunk.get("error")
            if error:
                raise self._faults.in_stream(error, self._model)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise self._garbage() from None

    def finish(self) -> Iterator[ModelEvent]:
        """Usage, if there was any, and the end. Raises UpstreamFailed for an unfinished answer."""
        if self.reason is None or any(not call.name for call in self._calls):
            raise self._faults.failed("ended before its answer was complete")
        if self._usage:
            yield UsageReported(self._usage, self._model)
        reason = self.reason
        # Providers say `stop` for calls they were forced to make, or `tool_calls` for none.
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if self._calls else "stop"
        yield ModelFinished(reason, self._model, self._fingerprint)

    def _deltas(self, delta: dict[str, Any], logprobs: dict[str, Any] | None) -> list[ModelEvent]:
        if len(delta) == 1 and not logprobs and (text := delta.get("content")):
            return [TextDelta(_str(text))]
        events: list[ModelEvent] = []
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought and isinstance(thought, str):
            events.append(ReasoningDelta(thought))
        text, refusal = delta.get("content"), delta.get("refusal")
        if text or (logprobs and not refusal):
            events.append(TextDelta(_str(text), logprobs))
        if refusal:
            events.append(RefusalDelta(_str(refusal), None if text else logprobs))
        citations = [each for each in delta.get("annotations") or () if _is_citation(each)]
        if citations:
            events.append(AnnotationsAdded(citations))
        calls = delta.get("tool_calls")
        if calls:
            for piece in calls:
                events += self._tool_call(piece)
        return events

    def _end(self, reason: str) -> None:
        if reason in _BROKEN_OFF:
            raise self._faults.failed("broke off its answer")
        self.reason = _REASONS.get(reason, "stop")

    def _tool_call(self, piece: dict[str, Any]) -> Iterator[ModelEvent]:
        function = piece.get("function") or {}
        id, name = _str(piece.get("id")), _str(function.get("name"))
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        call = self._call_of(piece.get("index"), id, name)
        if call.name:
            if arguments:
                yield ToolCallDelta(call.index, arguments=arguments)
            return
        call.id, call.name = call.id or id, name
        call.held += arguments
        if name:
            call.id = call.id or f"call_{uuid7_hex()}"
            yield ToolCallDelta(call.index, call.id, name, call.held)

    def _call_of(self, wire_index: int | None, id: str, name: str) -> _Call:
        if wire_index is not None:
            call = self._by_wire_index.get(wire_index)
        else:
            call = self._calls[-1] if self._calls else None
        # Some providers number every call 0, or none at all: a second name is a second call.
        if call is None or (call.name and name and (id or wire_index is None) and id != call.id):
            call = _Call(len(self._calls), id)
            self._calls.append(call)
            if wire_index is not None:
                self._by_wire_index[wire_index] = call
        return call

    def _garbage(self) -> Exception:
        return self._faults.failed("sent something that is not a chat completion")


def _is_citation(annotation: object) -> bool:
    """Some providers have annotations of their own, which no client of OpenAI's knows."""
    cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
    return isinstance(cited, dict) and cited.keys() >= _CITED


def _str(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise TypeError


def _usage(wire: dict[str, Any]) -> Usage | None:
    if wire.get("prompt_tokens") is None and wire.get("completion_tokens") is None:
        return None
    return Usage(
        input_tokens=int(wire.get("prompt_tokens") or 0),
        output_tokens=int(wire.get("completion_tokens") or 0),
        cached_tokens=int((wire.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
        reasoning_tokens=int(
            (wire.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
        ),
    )
