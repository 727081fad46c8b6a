"""Runs that are on record before they begin: they outlive their caller, and their process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from runtime.domain.entities.runs import RunStatus
from runtime.domain.value_objects.chat import GenerationOptions, Message
from runtime.domain.value_objects.identity import Principal, Scope
from runtime.domain.value_objects.ids import (
    AgentId,
    LineId,
    ProjectId,
    RunId,
    UserId,
    WorkerId,
)
from runtime.domain.value_objects.items import Item

MAX_PRIORITY = 100
OriginKind = Literal["retry", "resume", "fork", "schedule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """What is to be run: all that an attempt needs, at whatever process it is made."""

    caller: Principal
    messages: Sequence[Message]
    options: GenerationOptions = field(default_factory=GenerationOptions)
    session: str | None = None
    """The name of the conversation that it is a turn of, as `SessionRef.name`."""
    items: Sequence[Item] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    direct: bool = False
    """The model itself, without an agent."""
    response: bool = False
    """Its caller made it as an OpenAI response in the background."""


@dataclass(frozen=True, slots=True)
class RunProblem:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Why the run is there, where nobody asked for it directly."""

    kind: OriginKind
    id: str
    """Of the run that it repeats or goes on from, or of the schedule."""
    checkpoint_id: str | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """Where the end of one run is told, beside the project's webhooks."""

    url: str
    secret_sealed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableRun:
    """A run from its order to its end. What it used and made is in its log and its record."""

    id: RunId
    project_id: ProjectId
    owner_id: UserId
    agent_id: AgentId
    """The version that was resolved when the run was ordered; it stays with it."""
    line_id: LineId
    model: str
    """As the caller named it."""
    order: RunOrder
    status: RunStatus = RunStatus.QUEUED
    priority: int = 0
    """Among the runs of its owner the highest goes first; at most MAX_PRIORITY either way."""
    created_at: datetime
    not_before: datetime | None = None
    deadline: datetime | None = None
    """When it has failed if it has not ended."""
    attempt: int = 0
    """How often it was begun. Whoever writes with another number is refused."""
    worker: WorkerId | None = None
    """The process that has it now."""
    started_at: datetime | None = None
    """When it was first begun."""
    ended_at: datetime | None = None
    error: RunProblem | None = None
    origin: Origin | None = None
    callback: Callback | None = None

    @property
    def scope(self) -> Scope:
        """Its owner's."""
        return Scope(self.project_id, self.owner_id)

    def ended(self, status: RunStatus, at: datetime, error: RunProblem | None) -> "DurableRun":
        return replace(self, status=status, ended_at=at, error=error, worker=None)


def new_order(run: DurableRun, messages: Sequence[Message] | None = None) -> RunOrder:
    """The same again, or the same with another input."""
    return run.order if messages is None else replace(run.order, messages=messages, items=())
