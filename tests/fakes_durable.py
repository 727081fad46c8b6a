"""In-memory stand-ins for the queue of durable runs and what is around it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.durable import RunQueue, Share, Ticket
from runtime.domain.services.liveness import Heartbeat
from runtime.domain.value_objects.ids import RunId, WorkerId
from tests.fakes import MemoryStore


def utc_now() -> datetime:
    return datetime.now(UTC)


def ticket_of(run: DurableRun) -> Ticket:
    return Ticket(run.id, run.scope, run.line_id, run.attempt, run.status)


class MemoryRunQueue(RunQueue):
    """`away`: as if the database were."""

    def __init__(self, store: MemoryStore, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now
        self.beat_at: dict[WorkerId, datetime] = {}
        self.away = False

    async def claim(self, worker: WorkerId, room: int, share: Share) -> Sequence[Ticket]:
        claimed: list[Ticket] = []
        async with self._store.writer:
            while len(claimed) < room:
                due = [run for run in self._due(self._now()) if self._admits(run, share)]
                if not due:
                    break
                claimed.append(self._taken(self._next(due), worker))
        return claimed

    async def claim_one(self, worker: WorkerId, id: RunId, share: Share) -> Ticket | None:
        async with self._store.writer:
            for run in self._due(self._now()):
                if run.id == id and self._admits(run, share):
                    return self._taken(run, worker)
        return None

    async def due(self, at: datetime, *, limit: int) -> Sequence[Ticket]:
        return self._tickets(self._due(at))[:limit]

    async def held(self, worker: WorkerId) -> Sequence[Ticket]:
        return self._tickets(run for run in self._running() if run.worker == worker)

    async def abandoned(self, silent_s: float, *, limit: int) -> Sequence[Ticket]:
        def silent(worker: WorkerId | None) -> bool:
            beat_at = self.beat_at.get(worker) if worker else None
            return beat_at is None or (self._now() - beat_at).total_seconds() > silent_s

        return self._tickets(run for run in self._running() if silent(run.worker))[:limit]

    async def give_back(self, ticket: Ticket) -> bool:
        async with self._store.writer:
            run = self._known().get(ticket.id)
            if run is None or run.status is not RunStatus.RUNNING or run.attempt != ticket.attempt:
                return False
            self._put(replace(run, status=RunStatus.QUEUED, worker=None))
            return True

    async def expired(self, at: datetime, *, limit: int) -> Sequence[Ticket]:
        late = (
            run
            for run in self._known().values()
            if not run.status.final and run.deadline and run.deadline < at
        )
        return self._tickets(late)[:limit]

    async def going_on(self, attempts: Mapping[RunId, int]) -> set[RunId]:
        return {run.id for run in self._running() if attempts.get(run.id) == run.attempt}

    async def forget_workers(self, silent_s: float) -> None:
        busy = {run.worker for run in self._running()}
        for worker, beat_at in list(self.beat_at.items()):
            silent = (self._now() - beat_at).total_seconds() > silent_s
            if silent and worker not in busy:
                del self.beat_at[worker]

    def _known(self) -> dict[RunId, DurableRun]:
        if self.away:
            raise DatabaseUnavailable
        return self._store.tables.durable

    def _put(self, run: DurableRun) -> None:
        tables = self._store.tables.copy()
        tables.durable[run.id] = run
        self._store.tables = tables

    def _running(self) -> list[DurableRun]:
        return [run for run in self._known().values() if run.status is RunStatus.RUNNING]

    def _due(self, at: datetime) -> list[DurableRun]:
        due = [
            run
            for run in self._known().values()
            if run.status is RunStatus.QUEUED
            and (run.not_before is None or run.not_before <= at)
            and (run.deadline is None or run.deadline > at)
        ]
        return sorted(due, key=lambda run: (run.created_at, run.id))

    def _next(self, due: Iterable[DurableRun]) -> DurableRun:
        busy = Counter(run.scope for run in self._running())
        return min(due, key=lambda run: (busy[run.scope], -run.priority, run.created_at, run.id))

    def _admits(self, run: DurableRun, share: Share) -> bool:
        of_user = sum(other.scope == run.scope for other in self._running())
        of_agent = sum(other.line_id == run.line_id for other in self._running())
        return (share.per_user is None or of_user < share.per_user) and (
            share.per_agent is None or of_agent < share.per_agent
        )

    def _taken(self, run: DurableRun, worker: WorkerId) -> Ticket:
        taken = replace(
            run,
            status=RunStatus.RUNNING,
            attempt=run.attempt + 1,
            worker=worker,
            started_at=run.started_at or self._now(),
        )
        self._put(taken)
        return ticket_of(taken)

    def _tickets(self, runs: Iterable[DurableRun]) -> list[Ticket]:
        return [ticket_of(run) for run in runs]


class SteadyHeart(Heartbeat):
    """Of a process that everybody believes to live."""

    beating_for_s = 3_600.0
    silence_s = 3.0

    def __init__(self) -> None:
        self.holds = 0

    def hold(self) -> None:
        self.holds += 1

    async def felt(self) -> None: ...

    def release(self) -> None:
        self.holds -= 1

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
