from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.domain.entities.schedules import Schedule, TickView
from runtime.domain.repositories.schedules import ScheduleBook, ScheduleFilter
from runtime.domain.services.calendar import Calendar
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import ScheduleId
from runtime.domain.value_objects.pages import Page

AHEAD = 5
"""Ticks that are told in advance."""


@dataclass(frozen=True)
class ScheduleQueries:
    uow: UnitOfWorkFactory
    book: ScheduleBook
    calendar: Calendar

    async def page(
        self, actor: Principal, where: ScheduleFilter, *, limit: int, after: str | None
    ) -> Page[Schedule]:
        actor.require_scope(KeyScope.RUNS_READ)
        async with self.uow(actor.scope) as work:
            return await work.schedules.page(where, limit=limit, after=after)

    async def get(self, actor: Principal, id: ScheduleId) -> Schedule:
        """Raises ScheduleNotFound."""
        actor.require_scope(KeyScope.RUNS_READ)
        async with self.uow(actor.scope) as work:
            return await work.schedules.get(id)

    async def ahead(self, schedule: Schedule) -> Sequence[datetime]:
        """Its next ticks, as if it were not paused."""
        now = await self.book.now()
        return list(self._ahead(schedule, now))

    async def ticks(
        self, actor: Principal, id: ScheduleId, *, limit: int, after: str | None
    ) -> Page[TickView]:
        """The newest first. Raises ScheduleNotFound."""
        actor.require_scope(KeyScope.RUNS_READ)
        async with self.uow(actor.scope) as work:
            await work.schedules.get(id)
            return await work.schedules.ticks(id, limit=limit, after=after)

    def _ahead(self, schedule: Schedule, now: datetime) -> Iterator[datetime]:
        tick: datetime | None = now
        for _ in range(AHEAD):
            tick = tick and self.calendar.after(schedule.trigger, tick)
            if tick is None:
                return
            yield tick
