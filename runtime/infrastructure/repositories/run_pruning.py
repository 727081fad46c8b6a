"""Forgets runs that ended long ago, with everything that they left."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.repositories.pruning import Pruner
from runtime.domain.value_objects.ids import first_run_id
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.approvals import approvals
from runtime.infrastructure.repositories.durable_runs import durable_runs
from runtime.infrastructure.repositories.run_events import run_events
from runtime.infrastructure.repositories.runs import runs
from runtime.infrastructure.repositories.tool_ledger import tool_calls

AT_ONCE = 500
DURABLE_AT_ONCE = 50
"""Each may have left thousands of events, and a transaction that deletes is not to take long."""
_LEFT: Sequence[Table] = (run_events, tool_calls, approvals)


class SqlRunPruner(Pruner):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def prune(self, before: datetime) -> int:
        gone = 0
        while some := await self._durable(before) + await self._recorded(before):
            gone += some
        return gone

    async def _durable(self, before: datetime) -> int:
        """Ids of what still goes on have no end."""
        old = (
            select(durable_runs.c.id).where(durable_runs.c.ended_at < before).limit(DURABLE_AT_ONCE)
        )
        with refusals():
            async with self._engine.begin() as connection:
                ids = list((await connection.execute(old.limit(DURABLE_AT_ONCE))).scalars())
                for table in _LEFT:
                    await connection.execute(delete(table).where(table.c.run_id.in_(ids)))
                await connection.execute(delete(durable_runs).where(durable_runs.c.id.in_(ids)))
        return len(ids)

    async def _recorded(self, before: datetime) -> int:
        # Whatever ended before was made before: this finds it by the primary key.
        made = runs.c.id < first_run_id(before)
        old = select(runs.c.id).where(made, runs.c.ended_at < before).limit(AT_ONCE)
        with refusals():
            async with self._engine.begin() as connection:
                done = await connection.execute(delete(runs).where(runs.c.id.in_(old)))
                return done.rowcount
