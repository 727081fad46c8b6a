"""A run's events as the streaming doors name them: `text-delta`, `tool-…`, `finish`, `error`."""

from typing import Any

from runtime.domain.errors import Draining
from runtime.domain.events.runs import (
    AnnotationsAdded,
    ApprovalDecided,
    ApprovalRequested,
    HistorySummarised,
    OutputDiscarded,
    ReasoningDelta,
    RefusalDelta,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunResumed,
    RunStarted,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from runtime.domain.value_objects.chat import Usage
from runtime.infrastructure.web.errors import understand


def shown(event: RunEvent) -> tuple[str, dict[str, Any]] | None:
    """Its name and its data; None for what no reader is told."""
    match event:
        case TextDelta():
            return "text-delta", {"content": event.text}
        case ReasoningDelta():
            return "reasoning-delta", {"content": event.text}
        case RefusalDelta():
            return "refusal-delta", {"content": event.text}
        case AnnotationsAdded():
            return "annotations", {"annotations": event.annotations}
        case ToolCallDelta():
            return "tool-call-delta", {
                "index": event.index,
                "tool_call_id": event.call_id,
                "tool_name": event.name,
                "arguments": event.arguments,
            }
        case ToolCalled():
            return "tool-call", {
                "tool_call_id": event.call_id,
                "tool_name": event.name,
                "arguments": event.arguments,
            }
        case ToolReturned():
            return "tool-result", {
                "tool_call_id": event.call_id,
                "tool_name": event.name,
                "status": event.status,
                "output": event.output,
                "duration_ms": round(event.duration_ms, 1),
            }
        case RunStarted():
            return "start", {"run_id": event.run_id}
        case StepStarted():
            return "step-start", {"step_id": event.step_id, "name": event.name}
        case StepFinished():
            return "step-finish", {
                "step_id": event.step_id,
                "name": event.name,
                "status": event.status,
                "duration_ms": round(event.duration_ms, 1),
            }
        case RunCompleted():
            return "finish", {
                "finish_reason": event.finish_reason,
                "usage": usage_object(event.usage),
            }
        case RunFailed():
            return "error", failure(event.error)
        case RunCancelled():
            return "error", failure(Draining())
        case UsageReported() | HistorySummarised():
            return None
        case ApprovalRequested() | ApprovalDecided() | RunResumed() | OutputDiscarded():
            return None


def failure(error: BaseException) -> dict[str, Any]:
    refusal = understand(error)
    return {"error": refusal.message, "code": refusal.code, "status": refusal.status}


def usage_object(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }
