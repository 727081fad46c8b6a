"""What a streamed answer is made of. Every event keeps the server's own `type` and `data`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.client.errors import RuntimeClientError, streamed


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """As it is, one of a kind that this client does not know."""

    type: str
    source: str | None = None
    """Whose it is, where several answers come at once."""
    number: int | None = None
    """Over a WebSocket: its place in the answer, from 1."""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Event):
    run_id: str | None = None
    agent_id: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta(Event):
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta(Event):
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalDelta(Event):
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDelta(Event):
    """A piece of a call that the caller is to make; only the first one has id and name."""

    index: int
    tool_call_id: str
    tool_name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Event):
    """The agent calls one of its own tools."""

    tool_call_id: str
    tool_name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult(Event):
    tool_call_id: str
    tool_name: str
    status: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Event):
    finish_reason: str
    usage: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFailed(Event):
    """One of several answers failed; the others go on. Where there is one answer, its error is
    raised."""

    error: RuntimeClientError


Make = Callable[[Mapping[str, Any], Mapping[str, Any]], Event]
"""Of the data, and of what every event has."""

_MADE: Mapping[str, Make] = {
    "start": lambda d, base: Start(
        run_id=d.get("run_id"),
        agent_id=d.get("agent_id"),
        conversation_id=d.get("conversation_id"),
        **base,
    ),
    "text-delta": lambda d, base: TextDelta(text=_text(d, "content"), **base),
    "reasoning-delta": lambda d, base: ReasoningDelta(text=_text(d, "content"), **base),
    "refusal-delta": lambda d, base: RefusalDelta(text=_text(d, "content"), **base),
    "tool-call-delta": lambda d, base: ToolCallDelta(
        index=int(d.get("index") or 0),
        tool_call_id=_text(d, "tool_call_id"),
        tool_name=_text(d, "tool_name"),
        arguments=_text(d, "arguments"),
        **base,
    ),
    "tool-call": lambda d, base: ToolCall(
        tool_call_id=_text(d, "tool_call_id"),
        tool_name=_text(d, "tool_name"),
        arguments=_text(d, "arguments"),
        **base,
    ),
    "tool-result": lambda d, base: ToolResult(
        tool_call_id=_text(d, "tool_call_id"),
        tool_name=_text(d, "tool_name"),
        status=_text(d, "status"),
        output=_text(d, "output"),
        **base,
    ),
    "finish": lambda d, base: Finish(
        finish_reason=_text(d, "finish_reason"), usage=d.get("usage"), **base
    ),
}


def event_of(
    type: str,
    data: Mapping[str, Any],
    *,
    source: str | None = None,
    number: int | None = None,
) -> Event:
    """Raises the error that the event tells, unless it is one answer's of several."""
    base = {"type": type, "source": source, "number": number, "data": data}
    if type == "error":
        error = streamed(data)
        if source is None:
            raise error
        return SourceFailed(error=error, type=type, source=source, number=number, data=data)
    make = _MADE.get(type)
    return make(data, base) if make else Event(**base)  # type: ignore[arg-type] # of mixed values


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
