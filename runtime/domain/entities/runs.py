from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from runtime.domain.errors import DomainError
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import AgentId, KeyId, LineId, ProjectId, RunId, UserId


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    """For a person: an approval, or a word on a tool call whose outcome is not known."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class StepRecord:
    name: str
    status: str
    duration_ms: float
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class ToolRecord:
    name: str
    status: str
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The record of one execution that has ended. Written once, never changed."""

    id: RunId
    agent_id: AgentId
    line_id: LineId
    model: str
    """As the caller named it: `support`, `support@v7`, an agent id."""
    project_id: ProjectId
    owner_id: UserId
    """Who called."""
    status: RunStatus
    finish_reason: str | None
    error_code: str | None
    started_at: datetime
    ended_at: datetime
    first_token_ms: float | None
    """From the start to the first piece of output; None when there was none."""
    duration_ms: float
    usage: Usage
    usage_estimated: bool
    models: tuple[str, ...]
    """The models that answered, each once."""
    steps: tuple[StepRecord, ...] = ()
    tools: tuple[ToolRecord, ...] = ()
    session_id: str | None = None
    metadata: Mapping[str, object]
    error: DomainError | None = field(default=None, compare=False, repr=False)
    """Known while the run ends; what is stored is its code."""
    key_id: KeyId | None = None
    """Of the API key that called."""
    cost: Decimal | None = None
    """In USD; None where some model that answered has no price."""
