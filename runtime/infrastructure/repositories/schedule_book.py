"""The schedules of every project, for whoever keeps their time."""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.repositories.pruning import Pruner
from runtime.domain.repositories.schedules import Due, ScheduleBook
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import UtcDateTime
from runtime.infrastructure.repositories.schedules import (
    ENABLED,
    schedule_ticks,
    schedules,
    to_schedule,
)

_AT_ONCE = 1_000
_c, _t = schedules.c, schedule_ticks.c


class SqlScheduleBook(ScheduleBook):
    def __init__(self, engine: AsyncEngine, clock: Callable[[], datetime] | None = None) -> None:
        """`clock`: instead of PostgreSQL's own, or of this machine's where the database is a file
        on it."""
        self._engine = engine
        self._clock = clock

    async def now(self) -> datetime:
        local = self._local()
        if local is not None:
            return local
        with refusals():
            async with self._engine.connect() as connection:
                found: datetime = (
                    await connection.execute(select(func.clock_timestamp()))
                ).scalar_one()
        return found.astimezone(UTC)

    async def due(self, limit: int) -> Due:
        local = self._local()
        now = func.clock_timestamp(type_=UtcDateTime()) if local is None else local
        query = select(schedules).where(ENABLED, _c.next_at <= now)
        with refusals():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query.order_by(_c.next_at).limit(limit))).all()
        if not rows:
            return Due(local or datetime.now(UTC), ())
        return Due(await self.now(), [to_schedule(row) for row in rows])

    def _local(self) -> datetime | None:
        """None: the database knows."""
        if self._clock:
            return self._clock()
        return None if self._engine.dialect.name == "postgresql" else datetime.now(UTC)


class SqlTickPruner(Pruner):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def prune(self, before: datetime) -> int:
        old = select(_t.id).where(_t.decided_at < before).limit(_AT_ONCE)
        statement = delete(schedule_ticks).where(_t.id.in_(old))
        gone = 0
        while True:
            with refusals():
                async with self._engine.begin() as connection:
                    done = (await connection.execute(statement)).rowcount
            gone += done
            if done < _AT_ONCE:
                return gone
