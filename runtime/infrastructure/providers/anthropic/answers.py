"""Anthropic's message events, read from the bytes as they come.

The source is the Messages API: https://platform.claude.com/docs/en/build-with-claude/streaming.
Unknown events, blocks and deltas are passed over, as its versioning policy asks for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.models import ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import FinishReason, Usage
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.infrastructure.providers.faults import Faults

_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    # The model would go on in another call; what there is so far is no whole answer.
    "pause_turn": "length",
    "refusal": "content_filter",
}
_CUT: tuple[FinishReason, ...] = ("length", "content_filter")
_NO_EVENTS: tuple[ModelEvent, ...] = ()
_loads = orjson.loads


@dataclass(slots=True)
class _Call:
    index: int
    given: object
    """What stood in the block's beginning."""
    arguments: list[str]
    closed: bool = False

    def is_whole(self) -> bool:
        try:
            return self.closed and isinstance(_loads("".join(self.arguments)), dict)
        except orjson.JSONDecodeError:
            return False


class MessageAnswer:
    """One answer, streamed or whole."""

    __slots__ = (
        "_calls",
        "_counted",
        "_faults",
        "_model",
        "_open",
        "_said",
        "_text_from",
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
        self._counted: dict[str, Any] = {}
        self._calls: list[_Call] = []
        self._open: dict[int, _Call] = {}
        """Calls whose block has not ended, by the block's index."""
        self._said = 0
        self._text_from = 0
        """Characters of text before the current block."""

    def take(self, payload: bytes) -> Iterator[ModelEvent] | tuple[ModelEvent, ...]:
        """Raises a DomainError for an error, and for what is none of the API's events."""
        try:
            event = _loads(payload)
            kind = event["type"]
            if kind == "content_block_delta":
                return self._delta(event["index"], event["delta"])
            return tuple(self._other(kind, event))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise self._garbage() from None

    def finish(self) -> Iterator[ModelEvent]:
        """Usage, if there was any, and the end. Raises UpstreamFailed for an unfinished answer."""
        if self.reason is None:
            raise self._faults.failed("ended before its answer was complete")
        if self.reason not in _CUT and not all(call.is_whole() for call in self._calls):
            raise self._faults.failed("broke off a tool call")
        usage = _usage(self._counted)
        if usage:
            yield UsageReported(usage, self._model)
        reason = self.reason
        if reason not in _CUT:
            reason = "tool_calls" if self._calls else "stop"
        yield ModelFinished(reason, self._model)

    def _delta(self, index: int, delta: dict[str, Any]) -> tuple[ModelEvent, ...]:
        match delta["type"]:
            case "text_delta":
                return self._text(delta["text"])
            case "input_json_delta":
                call = self._open.get(index)
                return self._arguments(call, delta["partial_json"]) if call else _NO_EVENTS
            case "thinking_delta":
                thought = _str(delta["thinking"])
                return (ReasoningDelta(thought),) if thought else _NO_EVENTS
            case "citations_delta":
                return self._cited([delta["citation"]])
            case _:
                return _NO_EVENTS

    def _other(self, kind: str, event: dict[str, Any]) -> Iterator[ModelEvent]:
        match kind:
            case "ping":
                self.pings += 1
            case "content_block_start":
                yield from self._begin(event["index"], event["content_block"])
            case "content_block_stop":
                yield from self._close(event["index"])
            case "message_start":
                self._name(event["message"])
                self._count(event["message"].get("usage"))
            case "message_delta":
                self._end(event["delta"].get("stop_reason"))
                self._count(event.get("usage"))
            case "message_stop":
                self.reason = self.reason or "stop"
                self.done = True
            case "message":
                yield from self._whole(event)
            case "error":
                raise self._faults.in_stream(event["error"], self._model)

    def _whole(self, message: dict[str, Any]) -> Iterator[ModelEvent]:
        self._name(message)
        for index, block in enumerate(message["content"]):
            yield from self._begin(index, block)
            yield from self._close(index)
        self._end(message["stop_reason"])
        self._count(message.get("usage"))

    def _begin(self, index: int, block: dict[str, Any]) -> Iterator[ModelEvent]:
        match block["type"]:
            case "text":
                self._text_from = self._said
                yield from self._text(block.get("text") or "")
                yield from self._cited(block.get("citations") or ())
            case "thinking" if block.get("thinking"):
                yield ReasoningDelta(_str(block["thinking"]))
            case "tool_use":
                call = _Call(len(self._calls), block.get("input"), [])
                self._calls.append(call)
                self._open[index] = call
                id = _str(block.get("id") or f"call_{uuid7_hex()}")
                if not block["name"]:
                    raise ValueError
                yield ToolCallDelta(call.index, id, _str(block["name"]))

    def _close(self, index: int) -> Iterator[ModelEvent]:
        call = self._open.pop(index, None)
        if call is None:
            return
        call.closed = True
        if not call.arguments:
            yield from self._arguments(call, orjson.dumps(call.given or {}).decode())

    def _text(self, text: str) -> tuple[ModelEvent, ...]:
        if not text:
            return _NO_EVENTS
        self._said += len(_str(text))
        return (TextDelta(text),)

    def _arguments(self, call: _Call, piece: str) -> tuple[ModelEvent, ...]:
        if not piece:
            return _NO_EVENTS
        call.arguments.append(_str(piece))
        return (ToolCallDelta(call.index, arguments=piece),)

    def _cited(self, citations: Any) -> tuple[ModelEvent, ...]:  # noqa: ANN401 - JSON is anything
        """Only pages of the web have a form that callers know."""
        found = [
            {
                "type": "url_citation",
                "url_citation": {
                    "url": _str(each["url"]),
                    "title": _str(each.get("title") or ""),
                    "start_index": self._text_from,
                    "end_index": self._said,
                },
            }
            for each in citations
            if each.get("url")
        ]
        return (AnnotationsAdded(found),) if found else _NO_EVENTS

    def _name(self, message: dict[str, Any]) -> None:
        self._model = _str(message.get("model") or self._model)

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        """What comes later is counted from the beginning, so it takes the place of the earlier."""
        given = {name: value for name, value in (usage or {}).items() if value is not None}
        self._counted.update(given)

    def _end(self, reason: str | None) -> None:
        if reason:
            self.reason = _REASONS.get(reason, "stop")

    def _garbage(self) -> Exception:
        return self._faults.failed("sent something that is not a message")


def _str(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _usage(counted: Mapping[str, Any]) -> Usage | None:
    """Input that comes from the cache, or goes into it, is not in the API's `input_tokens`."""
    if "input_tokens" not in counted and "output_tokens" not in counted:
        return None
    cached = int(counted.get("cache_read_input_tokens", 0))
    details = counted.get("output_tokens_details") or {}
    return Usage(
        input_tokens=int(counted.get("input_tokens", 0))
        + cached
        + int(counted.get("cache_creation_input_tokens", 0)),
        output_tokens=int(counted.get("output_tokens", 0)),
        cached_tokens=cached,
        reasoning_tokens=int(details.get("thinking_tokens") or 0),
    )
