"""A run's events folded into one answer: the non-streaming form of every door."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    RunCompleted,
    RunEvent,
    RunFailed,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.value_objects.chat import NO_USAGE, FinishReason, ToolCall, Usage


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    reasoning: str
    refusal: str | None
    tool_calls: Sequence[ToolCall]
    """Calls that the caller is to make."""
    logprobs: Sequence[Any]
    """OpenAI's token objects, in order; empty when none were asked for."""
    refusal_logprobs: Sequence[Any]
    annotations: Sequence[Mapping[str, object]]
    finish_reason: FinishReason
    usage: Usage
    events: Sequence[RunEvent] = ()

    @classmethod
    def of(cls, events: Sequence[RunEvent]) -> Self:
        """Raises the error of a RunFailed."""
        text: list[str] = []
        reasoning: list[str] = []
        refusal: list[str] = []
        logprobs: list[Any] = []
        refusal_logprobs: list[Any] = []
        annotations: list[Mapping[str, object]] = []
        calls: dict[int, ToolCall] = {}
        usage = NO_USAGE
        finish: FinishReason = "stop"
        for event in events:
            match event:
                case TextDelta():
                    text.append(event.text)
                    if event.logprobs:
                        logprobs += tokens(event.logprobs.get("content"))
                        refusal_logprobs += tokens(event.logprobs.get("refusal"))
                case ReasoningDelta():
                    reasoning.append(event.text)
                case RefusalDelta():
                    refusal.append(event.text)
                    if event.logprobs:
                        refusal_logprobs += tokens(event.logprobs.get("refusal"))
                case AnnotationsAdded():
                    annotations += event.annotations
                case ToolCallDelta():
                    calls[event.index] = extended(calls.get(event.index), event)
                case UsageReported():
                    usage += event.usage
                case RunCompleted():
                    finish = event.finish_reason
                case RunFailed():
                    raise event.error
                case _:
                    pass
        return cls(
            text="".join(text),
            reasoning="".join(reasoning),
            refusal="".join(refusal) or None,
            tool_calls=[calls[index] for index in sorted(calls)],
            logprobs=logprobs,
            refusal_logprobs=refusal_logprobs,
            annotations=annotations,
            finish_reason=finish,
            usage=usage,
            events=events,
        )


def extended(call: ToolCall | None, delta: ToolCallDelta) -> ToolCall:
    """`call` with one more piece of its arguments."""
    if call is None:
        return ToolCall(delta.call_id, delta.name, delta.arguments)
    return replace(call, arguments=call.arguments + delta.arguments)


def tokens(value: object) -> Iterable[Any]:
    """Of a `logprobs` object's `content`."""
    return value if isinstance(value, list) else ()
