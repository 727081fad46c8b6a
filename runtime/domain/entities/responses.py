from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Self, cast

from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.errors import DomainError, RateLimited
from runtime.domain.events.runs import RunCancelled, RunCompleted, RunFailed
from runtime.domain.value_objects.chat import FinishReason, Usage
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import ProjectId, ResponseId, RunId, UserId
from runtime.domain.value_objects.items import Item, ItemStatus

End = RunCompleted | RunFailed | RunCancelled


class ResponseStatus(StrEnum):
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (ResponseStatus.QUEUED, ResponseStatus.IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class ResponseFailure:
    code: str
    """Of OpenAI's `ResponseErrorCode`."""
    message: str

    @classmethod
    def of(cls, error: DomainError) -> Self:
        limited = isinstance(error, RateLimited)
        return cls("rate_limit_exceeded" if limited else "server_error", str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer of an agent with what it was asked: a run, in OpenAI's words."""

    id: ResponseId
    project_id: ProjectId
    owner_id: UserId
    model: str
    """As the caller named it."""
    status: ResponseStatus
    background: bool
    """It goes on without its caller, and its events are kept."""
    previous_id: ResponseId | None
    conversation: str | None
    created_at: datetime
    completed_at: datetime | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    """What the caller asked for, in the words of the door, which says it again."""
    input: Sequence[Item] = ()
    output: Sequence[Item] = ()
    usage: Usage | None = None
    failure: ResponseFailure | None = None
    incomplete_reason: str | None = None
    """`max_output_tokens` or `content_filter`."""

    @property
    def run_id(self) -> RunId:
        return RunId(f"run_{self.id.removeprefix('resp_')}")

    @property
    def scope(self) -> Scope:
        """Its owner's."""
        return Scope(self.project_id, self.owner_id)

    def ended(self, end: End, output: Sequence[Item], at: datetime) -> "Response":
        """As the end of its run leaves it. The output has been closed with `open_items(end)`."""
        match end:
            case RunCompleted(finish_reason="length" | "content_filter" as why):
                reason = "max_output_tokens" if why == "length" else why
                return replace(
                    self,
                    status=ResponseStatus.INCOMPLETE,
                    incomplete_reason=reason,
                    output=output,
                    usage=end.usage,
                )
            case RunCompleted():
                return replace(
                    self,
                    status=ResponseStatus.COMPLETED,
                    output=output,
                    usage=end.usage,
                    completed_at=at,
                )
            case RunFailed():
                failure = ResponseFailure.of(end.error)
                return replace(self, status=ResponseStatus.FAILED, output=output, failure=failure)
            case RunCancelled():
                return replace(self, status=ResponseStatus.CANCELLED, output=output)


def response_id(run: RunId) -> ResponseId:
    return ResponseId(f"resp_{run.removeprefix('run_')}")


def end_of(run: Run) -> End:
    """Its last event, made of its record while it ends."""
    if run.status is RunStatus.COMPLETED:
        return RunCompleted(cast(FinishReason, run.finish_reason), run.usage)
    return RunFailed(run.error) if run.error else RunCancelled()


def open_items(end: End) -> ItemStatus:
    """The status of what a run has begun and not ended by itself."""
    whole = isinstance(end, RunCompleted) and end.finish_reason in ("stop", "tool_calls")
    return "completed" if whole else "incomplete"
