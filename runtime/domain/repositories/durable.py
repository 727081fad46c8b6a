"""Where durable runs are kept, who has them, and what their tools have done."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.runs import RunStatus
from runtime.domain.events.runs import RunEvent
from runtime.domain.repositories.checkpoints import Progress
from runtime.domain.services.durability import Entered
from runtime.domain.services.tools import ToolOutcome
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import LineId, RunId, WorkerId


class DurableRunRepository(Protocol):
    """Durable runs of the scope's project; without `administers`, one's own."""

    async def add(self, run: DurableRun) -> bool:
        """False when there is one with that id: the same order came twice."""

    async def get(self, id: RunId) -> DurableRun:
        """Raises RunNotFound."""

    async def some(self, ids: Collection[RunId]) -> Mapping[RunId, DurableRun]:
        """Those of them that are durable."""

    async def queued(self) -> int:
        """How many of the owner's own wait to be begun."""

    async def finish(self, run: DurableRun, *, attempt: int | None = None) -> bool:
        """Write how it ended. False when that is decided; with `attempt`, when that is no longer
        the current one."""

    async def suspend(self, id: RunId, attempt: int) -> bool:
        """RUNNING → WAITING. False when the attempt is not the current one."""

    async def release(self, id: RunId, attempt: int, not_before: datetime | None = None) -> bool:
        """RUNNING → QUEUED: another process, or this one later, goes on. As `suspend`."""

    async def waits(self, id: RunId) -> bool:
        """Whether it is WAITING, and stays so until this transaction ends."""

    async def wake(self, id: RunId) -> bool:
        """WAITING → QUEUED. False when it does not wait."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many runs may go on at once, over all processes; None: as many as there is room for."""

    per_user: int | None = None
    per_agent: int | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """A run as whoever looks after all of them sees it."""

    id: RunId
    scope: Scope
    line_id: LineId
    attempt: int
    status: RunStatus


class RunQueue(Protocol):
    """The runs of every project, for the processes that run them. Every call raises
    DatabaseUnavailable, and is one transaction."""

    async def claim(self, worker: WorkerId, room: int, share: Share) -> Sequence[Ticket]:
        """Take at most `room` of those that are queued and due: they are RUNNING, with the next
        attempt, and the worker's.

        Owners take turns: whoever has the fewest going on is next, with their run of the highest
        priority, the oldest of those."""

    async def claim_one(self, worker: WorkerId, id: RunId, share: Share) -> Ticket | None:
        """The same for one of them; None when it is not queued and due, or there is no room."""

    async def due(self, at: datetime, *, limit: int) -> Sequence[Ticket]:
        """Queued and due, oldest first."""

    async def held(self, worker: WorkerId) -> Sequence[Ticket]:
        """RUNNING and the worker's."""

    async def abandoned(self, silent_s: float, *, limit: int) -> Sequence[Ticket]:
        """RUNNING and of a worker that has not beaten for so long, or is not there."""

    async def give_back(self, ticket: Ticket) -> bool:
        """RUNNING → QUEUED, unless the attempt is another by now."""

    async def expired(self, at: datetime, *, limit: int) -> Sequence[Ticket]:
        """Not ended and past their deadline."""

    async def going_on(self, attempts: Mapping[RunId, int]) -> set[RunId]:
        """Those of them that are RUNNING with that attempt."""

    async def forget_workers(self, silent_s: float) -> None:
        """Of workers that have long gone, once nothing is theirs."""


@dataclass(frozen=True, slots=True)
class AttemptEntry:
    """Events of one attempt, to be written behind number `after`."""

    run: RunId
    scope: Scope
    attempt: int
    after: int
    events: Sequence[RunEvent]
    progress: Progress | None = None
    """What steps leave behind that say no more than these events and those before them."""


class AttemptLog(Protocol):
    """Appends to logs of many runs at once, and keeps what their steps leave behind, fenced by
    their attempts."""

    async def append(self, entries: Sequence[AttemptEntry]) -> Sequence[bool]:
        """In one transaction; for each run whether it is written. False: the run is no longer
        RUNNING with that attempt. An entry that was written before, because the answer to its
        commit was lost, counts as written. Raises DatabaseUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCall:
    """One call of a tool by a run."""

    run: RunId
    scope: Scope
    attempt: int
    call_id: str
    step: str
    """The step that makes it, where the framework says so; the same over attempts."""
    occurrence: int
    """Among the calls of the step with the same tool and arguments: 0, 1, …"""
    name: str
    arguments: str
    """Canonical JSON: what is the same call has the same text."""
    repeatable: bool
    """Made again when nobody knows whether it was made."""
    ask: bool = False
    """Not made before a person has agreed."""
    at: datetime


class ToolLedger(Protocol):
    """What tools have done for durable runs. Every call raises DatabaseUnavailable; those that
    write raise AttemptLost when the attempt is no longer the current one. Written twice, because
    the answer to a commit was lost, is as good as once."""

    async def enter(self, call: LedgerCall, found: Collection[str] = ()) -> Entered:
        """On record before it is made. It is found again by step, tool and arguments: among those
        under its own id, else the first that is not among `found`, the ids that this attempt has
        been given before."""

    async def begin(self, call: LedgerCall) -> None:
        """It was asked for, or its outcome is not known, and it is made now. `call` names the id
        that `enter` gave."""

    async def finish(self, call: LedgerCall, outcome: ToolOutcome, duration_ms: float) -> None:
        """As `begin` takes it. What is recorded first stays."""

    async def copy(self, source: RunId, target: RunId) -> None:
        """All calls, for a run that goes on from where another one ended: those that had not
        finished are as those of an earlier attempt."""


class WorkerBeats(Protocol):
    """Says of a process that it lives. It is called from a thread of its own, and blocks; raises
    Exception of whatever kind when the database can't be reached."""

    def beat(self, worker: WorkerId) -> None: ...

    def look(self) -> None:
        """At the workers of this machine: those whose processes have ended are silent from now
        on since ever."""

    def leave(self, worker: WorkerId) -> None:
        """It has ended; what is still its own is abandoned."""

    def close(self) -> None: ...
