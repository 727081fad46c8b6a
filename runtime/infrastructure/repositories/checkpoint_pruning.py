from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.repositories.pruning import Pruner
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.checkpoint_rows import TABLES, checkpoints
from runtime.infrastructure.repositories.durable_runs import durable_runs

_AT_ONCE = 200
"""Runs whose checkpoints are deleted in one transaction."""


class SqlCheckpointPruner(Pruner):
    """Deletes the checkpoints of runs that ended before the time, or are not on record."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def prune(self, before: datetime) -> int:
        """How many runs have none any more."""
        gone = 0
        while True:
            with refusals():
                async with self._engine.begin() as connection:
                    runs = [row.run_id for row in await connection.execute(_ended(before))]
                    for table in TABLES:
                        await connection.execute(delete(table).where(table.c.run_id.in_(runs)))
            gone += len(runs)
            if len(runs) < _AT_ONCE:
                return gone


def _ended(before: datetime) -> Select[Any]:
    of_it = durable_runs.c.id == checkpoints.c.run_id
    goes_on = exists().where(
        of_it, or_(durable_runs.c.ended_at.is_(None), durable_runs.c.ended_at >= before)
    )
    return (
        select(checkpoints.c.run_id)
        .where(checkpoints.c.created_at < before, ~goes_on)
        .distinct()
        .limit(_AT_ONCE)
    )
