"""The log of a durable run, read over as many connections as that takes; without any I/O."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.client import attempts
from runtime.client.decoding import Decoder
from runtime.client.errors import (
    ConnectionFailedError,
    RateLimitError,
    RuntimeClientError,
    UnavailableError,
    UnexpectedAnswerError,
    UpstreamError,
    UpstreamTimeoutError,
    streamed,
)
from runtime.client.events import (
    Event,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)
from runtime.client.options import quoted
from runtime.client.shapes import StreamCall

MOST_FAILURES = 12
"""Connections in a row over which nothing came: about a minute."""
_ELSEWHERE = (
    ConnectionFailedError,
    RateLimitError,
    UnavailableError,
    UpstreamError,
    UpstreamTimeoutError,
)
"""What another replica, or this one later, may do better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(Event):
    step_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished(Event):
    step_id: str
    name: str
    status: str
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested(Event):
    """The run waits for a person; `decide_approval` is their word."""

    approval_id: str
    kind: str
    """`tool`, `interrupt` or `outcome_unknown`."""
    tool_name: str
    arguments: str
    value: object
    """What a graph's `interrupt` says to the person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDecided(Event):
    approval_id: str
    decision: str
    decided_by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed(Event):
    """Another attempt goes on where the log ends."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDiscarded(Event):
    """The answer goes on differently: what events numbered higher than `after` said does not
    count."""

    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(Event):
    finish_reason: str
    usage: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled(Event):
    pass


Make = Callable[[Mapping[str, Any], Mapping[str, Any]], Event]
"""Of the data, and of what every event has."""

_MADE: Mapping[str, Make] = {
    "run.started": lambda d, base: Start(run_id=d["run_id"], **base),
    "text.delta": lambda d, base: TextDelta(text=d["text"], **base),
    "reasoning.delta": lambda d, base: ReasoningDelta(text=d["text"], **base),
    "refusal.delta": lambda d, base: RefusalDelta(text=d["text"], **base),
    "tool.call.delta": lambda d, base: ToolCallDelta(
        index=d["index"],
        tool_call_id=d["call_id"],
        tool_name=d["name"],
        arguments=d["arguments"],
        **base,
    ),
    "tool.call": lambda d, base: ToolCall(
        tool_call_id=d["call_id"], tool_name=d["name"], arguments=d["arguments"], **base
    ),
    "tool.result": lambda d, base: ToolResult(
        tool_call_id=d["call_id"],
        tool_name=d["name"],
        status=d["status"],
        output=d["output"],
        **base,
    ),
    "step.started": lambda d, base: StepStarted(step_id=d["step_id"], name=d["name"], **base),
    "step.finished": lambda d, base: StepFinished(
        step_id=d["step_id"],
        name=d["name"],
        status=d["status"],
        duration_ms=d["duration_ms"],
        **base,
    ),
    "approval.requested": lambda d, base: ApprovalRequested(
        approval_id=d["approval_id"],
        kind=d["kind"],
        tool_name=d["tool"],
        arguments=d["arguments"],
        value=d["value"],
        **base,
    ),
    "approval.decided": lambda d, base: ApprovalDecided(
        approval_id=d["approval_id"],
        decision=d["decision"],
        decided_by=d["decided_by"],
        reason=d["reason"],
        **base,
    ),
    "run.resumed": lambda d, base: RunResumed(attempt=d["attempt"], **base),
    "output.discarded": lambda d, base: OutputDiscarded(after=d["after"], **base),
    "run.completed": lambda d, base: RunCompleted(
        finish_reason=d["finish_reason"], usage=d["usage"], **base
    ),
    "run.failed": lambda d, base: RunFailed(code=d["code"], message=d["message"], **base),
    "run.cancelled": lambda d, base: RunCancelled(**base),
}
_LAST = ("run.completed", "run.failed", "run.cancelled")


class Following(Decoder):
    """Where a reader of a run's log is: it outlives the connections that it reads from."""

    def __init__(self, run_id: str, after: int) -> None:
        super().__init__()
        self._path = f"/v1/runs/{quoted(run_id)}/events"
        self._after = after
        self._heard = False
        self._failures = 0

    @property
    def over(self) -> bool:
        return self._done

    def call(self) -> StreamCall:
        """What is asked for now: the rest."""
        self._unread.clear()
        self._heard = False
        return StreamCall(self._path, None, lambda: self, "GET", {"after": self._after})

    def feed(self, data: bytes) -> Iterator[Event]:
        self._heard = True
        yield from super().feed(data)
        # Be it only a comment: whoever waits for a person hears nothing else for days.
        self._failures = 0

    def end(self) -> None:
        # A run that has ended, and nothing is behind what was asked for.
        self._done = self._done or not self._heard
        super().end()

    def lost(self, error: RuntimeClientError) -> float:
        """The seconds to wait before the rest is asked for. Raises what can't be mended so."""
        self._failures += 1
        asked_s = error.retry_after_s or 0.0
        too_long = asked_s > attempts.LONGEST_RETRY_AFTER_S or self._failures > MOST_FAILURES
        if too_long or not isinstance(error, _ELSEWHERE):
            raise error
        return max(asked_s, attempts.backoff_s(self._failures - 1))

    def _decoded(self, payload: Mapping[str, Any]) -> Iterator[Event]:
        if "error" in payload:
            raise streamed(payload)
        event = _event_of(payload)
        if event.number is None or event.number <= self._after:
            return
        self._after = event.number
        self._done = event.type in _LAST
        yield event


class Text:
    """Of an answer, without what was taken back."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, str]] = []

    def add(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._pieces.append((event.number or 0, event.text))
        elif isinstance(event, OutputDiscarded):
            self._pieces = [piece for piece in self._pieces if piece[0] <= event.after]

    def __str__(self) -> str:
        return "".join(text for _, text in self._pieces)


def _event_of(payload: Mapping[str, Any]) -> Event:
    """Raises UnexpectedAnswerError."""
    data = {name: value for name, value in payload.items() if name not in ("seq", "type")}
    try:
        base = {"type": payload["type"], "number": int(payload["seq"]), "data": data}
        make = _MADE.get(payload["type"])
        return make(data, base) if make else Event(**base)
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswerError("The log holds something that is no event.") from error
