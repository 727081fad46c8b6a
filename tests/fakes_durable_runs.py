"""Durable runs, in memory."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import RunNotFound
from runtime.domain.repositories.durable import DurableRunRepository
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.repositories.run_orders import order_json, order_of

if TYPE_CHECKING:
    from tests.fakes import MemoryTransaction


class MemoryDurableRunRepository(DurableRunRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def add(self, run: DurableRun) -> bool:
        self._transaction.own(run)
        tables = await self._transaction.writing()
        if run.id in tables.durable:
            return False
        tables.durable[run.id] = replace(run, order=order_of(order_json(run.order)))
        return True

    async def get(self, id: RunId) -> DurableRun:
        found = self._find(id)
        if found is None:
            raise RunNotFound(id)
        return found

    async def some(self, ids: Collection[RunId]) -> Mapping[RunId, DurableRun]:
        return {run.id: run for run in self._visible() if run.id in ids}

    async def queued(self) -> int:
        mine = self._transaction.mine
        return sum(run.status is RunStatus.QUEUED and mine(run) for run in self._visible())

    async def finish(self, run: DurableRun, *, attempt: int | None = None) -> bool:
        now = self._find(run.id)
        if now is None or now.status.final:
            return False
        if attempt is not None and (now.attempt, now.status) != (attempt, RunStatus.RUNNING):
            return False
        await self._put(
            replace(now, status=run.status, ended_at=run.ended_at, error=run.error, worker=None)
        )
        return True

    async def suspend(self, id: RunId, attempt: int) -> bool:
        return await self._from_running(id, attempt, RunStatus.WAITING, None)

    async def release(self, id: RunId, attempt: int, not_before: datetime | None = None) -> bool:
        return await self._from_running(id, attempt, RunStatus.QUEUED, not_before)

    async def waits(self, id: RunId) -> bool:
        await self._transaction.writing()
        now = self._find(id)
        return now is not None and now.status is RunStatus.WAITING

    async def wake(self, id: RunId) -> bool:
        now = self._find(id)
        if now is None or now.status is not RunStatus.WAITING:
            return False
        await self._put(replace(now, status=RunStatus.QUEUED))
        return True

    async def _from_running(
        self, id: RunId, attempt: int, status: RunStatus, not_before: datetime | None
    ) -> bool:
        now = self._find(id)
        if now is None or (now.attempt, now.status) != (attempt, RunStatus.RUNNING):
            return False
        due = not_before or now.not_before
        await self._put(replace(now, status=status, worker=None, not_before=due))
        return True

    async def _put(self, run: DurableRun) -> None:
        (await self._transaction.writing()).durable[run.id] = run

    def _find(self, id: RunId) -> DurableRun | None:
        return next((run for run in self._visible() if run.id == id), None)

    def _visible(self) -> list[DurableRun]:
        runs = self._transaction.ours(self._transaction.tables.durable.values())
        administers, mine = self._transaction.scope.administers, self._transaction.mine
        return [run for run in runs if administers or mine(run)]
