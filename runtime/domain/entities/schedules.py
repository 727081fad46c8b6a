"""Orders for runs that are to begin at set times."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.durable import DurableRun, Origin, RunOrder, RunProblem
from runtime.domain.entities.runs import RunStatus
from runtime.domain.value_objects.ids import (
    ProjectId,
    RunId,
    ScheduleId,
    UserId,
    uuid7_of,
)
from runtime.domain.value_objects.schedules import Backfill, Overlap, Trigger

MAX_NAME = 128
MOST_FAILURES = 10
"""In a row; then the schedule is paused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Begins a durable run at each tick of its trigger, in the name of its owner."""

    id: ScheduleId
    project_id: ProjectId
    owner_id: UserId
    name: str
    model: str
    """Resolved anew at each tick."""
    order: RunOrder
    """With the owner as its caller, by the credential that last had a say in it."""
    trigger: Trigger
    backfill: Backfill = Backfill.SKIP
    max_backfill: int = 10
    """How many missed ticks are made up for at most, where all are to be."""
    overlap: Overlap = Overlap.ALLOW
    priority: int = 0
    deadline_s: float | None = None
    """Of each run, from the moment it is ordered."""
    enabled: bool = True
    paused_because: str | None = None
    """Where it was not somebody who paused it."""
    next_at: datetime | None
    """The first tick that is not decided. It stays while the schedule is paused."""
    last_tick: datetime | None = None
    last_run_id: RunId | None = None
    last_error: RunProblem | None = None
    """Why the last tick began no run; None when it did."""
    failures: int = 0
    """Ticks in a row that could not begin a run."""
    created_at: datetime
    updated_at: datetime
    revision: int = 1
    """Of what was ordered; ticks leave it as it is."""

    @property
    def etag(self) -> str:
        return f'"{self.revision}-{int(self.created_at.timestamp() * 1_000)}"'

    def run(self, id: RunId, agent: Agent, order: RunOrder, at: datetime) -> DurableRun:
        return DurableRun(
            id=id,
            project_id=self.project_id,
            owner_id=self.owner_id,
            agent_id=agent.id,
            line_id=agent.line_id,
            model=self.model,
            order=order,
            priority=self.priority,
            created_at=at,
            deadline=at + timedelta(seconds=self.deadline_s) if self.deadline_s else None,
            origin=Origin("schedule", self.id),
        )

    def paused(self, because: str | None = None) -> "Schedule":
        return replace(self, enabled=False, paused_because=because)

    def ticked(self, tick: "ScheduleTick") -> "Schedule":
        """After a tick was decided: failures count, what was left out does not."""
        if tick.status is TickStatus.STARTED:
            failures = 0
        else:
            failures = self.failures + (tick.status is TickStatus.FAILED)
        became = replace(
            self,
            last_tick=tick.at,
            last_run_id=tick.id if tick.status is TickStatus.STARTED else self.last_run_id,
            last_error=tick.error,
            failures=failures,
        )
        if failures >= MOST_FAILURES:
            return became.paused(f"{failures} ticks in a row could not begin a run.")
        return became


class TickStatus(StrEnum):
    STARTED = "started"
    FAILED = "failed"
    """No run could be ordered."""
    SKIPPED = "skipped"
    """A run of the schedule went on."""
    MISSED = "missed"
    """Nobody was there, and it is not made up for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTick:
    """What became of one tick: there is at most one of a schedule and a time."""

    id: RunId
    """Of the run that it began, or would have begun."""
    schedule_id: ScheduleId
    project_id: ProjectId
    owner_id: UserId
    at: datetime
    """When it was due."""
    decided_at: datetime
    manual: bool = False
    """Somebody asked for it, out of turn."""
    status: TickStatus
    error: RunProblem | None = None

    @classmethod
    def of(
        cls,
        schedule: Schedule,
        at: datetime,
        status: TickStatus,
        now: datetime,
        error: RunProblem | None = None,
    ) -> "ScheduleTick":
        return cls(
            id=run_id_of(schedule.id, at),
            schedule_id=schedule.id,
            project_id=schedule.project_id,
            owner_id=schedule.owner_id,
            at=at,
            decided_at=now,
            status=status,
            error=error,
        )


@dataclass(frozen=True, slots=True)
class TickView:
    tick: ScheduleTick
    run_status: RunStatus | None
    """None where there is no run, or its record is pruned."""
    run_error: RunProblem | None


def run_id_of(schedule: ScheduleId, tick: datetime) -> RunId:
    """The same wherever and whenever it is asked for: a tick can't begin two runs."""
    digest = hashlib.sha256(f"{schedule} {tick.timestamp():.6f}".encode()).digest()
    return RunId(f"run_{uuid7_of(tick, int.from_bytes(digest))}")
