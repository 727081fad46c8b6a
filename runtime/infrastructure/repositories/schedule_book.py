"""The schedules of every project, for whoever keeps their time."""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.repositories.schedules import Due, ScheduleBook
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import UtcDateTime
from runtime.infrastructure.repositories.pruning import SqlPruner
from runtime.infrastructure.repositories.schedules import (
    ENABLED,
    schedule_ticks,
    schedules,
    to_schedule,
)

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


class SqlTickPruner(SqlPruner):
    at = _t.decided_at
