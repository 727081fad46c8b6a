"""In-memory stand-ins for schedules."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.schedules import Schedule, ScheduleTick, TickView
from runtime.domain.errors import ConcurrentChange, ScheduleNotFound, TooManySchedules
from runtime.domain.repositories.durable import Ticket
from runtime.domain.repositories.schedules import (
    Due,
    ScheduleBook,
    ScheduleFilter,
    ScheduleRepository,
)
from runtime.domain.services.dispatcher import Begin, RunDispatcher
from runtime.domain.value_objects.ids import ScheduleId
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.repositories.run_orders import order_json, order_of
from runtime.infrastructure.repositories.schedules import (
    CURSORS,
    position,
    tick_cursors,
    tick_position,
)

if TYPE_CHECKING:
    from tests.fakes import MemoryStore, MemoryTransaction


class MemoryScheduleRepository(ScheduleRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def add(self, schedule: Schedule, most: int) -> None:
        self._transaction.own(schedule)
        tables = await self._transaction.writing()
        theirs = (schedule.project_id, schedule.owner_id)
        owners = [(each.project_id, each.owner_id) for each in tables.schedules.values()]
        if owners.count(theirs) >= most:
            raise TooManySchedules(most)
        tables.schedules[schedule.id] = _stored(schedule)

    async def get(self, id: ScheduleId) -> Schedule:
        for schedule in self._shown():
            if schedule.id == id:
                return schedule
        raise ScheduleNotFound(id)

    async def save(self, seen: Schedule, became: Schedule) -> Schedule:
        now = await self._unchanged(seen)
        saved = replace(_with_changes(now, seen, became), revision=seen.revision + 1)
        (await self._transaction.writing()).schedules[seen.id] = _stored(saved)
        return saved

    async def remove(self, schedule: Schedule) -> None:
        await self._unchanged(schedule)
        tables = await self._transaction.writing()
        del tables.schedules[schedule.id]
        for tick in [each for each in tables.ticks.values() if each.schedule_id == schedule.id]:
            del tables.ticks[tick.id]

    async def page(self, where: ScheduleFilter, *, limit: int, after: str | None) -> Page[Schedule]:
        found = [
            schedule
            for schedule in self._shown()
            if where.model in (None, schedule.model) and where.enabled in (None, schedule.enabled)
        ]
        found.sort(key=position, reverse=True)
        if after is not None:
            start = CURSORS.read(after)
            found = [each for each in found if position(each) < start]
        return CURSORS.page(found[: limit + 1], limit, position)

    async def advance(self, seen: Schedule, became: Schedule) -> bool:
        await self._transaction.writing()
        for now in self._shown():
            same = (now.id, now.revision, now.next_at) == (seen.id, seen.revision, seen.next_at)
            if same and now.enabled:
                changed = _with_changes(now, seen, became)
                (await self._transaction.writing()).schedules[now.id] = _stored(changed)
                return True
        return False

    async def record(self, tick: ScheduleTick) -> bool:
        self._transaction.own(tick)
        tables = await self._transaction.writing()
        if tick.id in tables.ticks:
            return False
        tables.ticks[tick.id] = tick
        return True

    async def busy(self, id: ScheduleId) -> bool:
        return any(
            view.run_status is not None and not view.run_status.final for view in self._views(id)
        )

    async def ticks(self, id: ScheduleId, *, limit: int, after: str | None) -> Page[TickView]:
        cursors = tick_cursors(id)
        found = sorted(self._views(id), key=tick_position, reverse=True)
        if after is not None:
            start = cursors.read(after)
            found = [each for each in found if tick_position(each) < start]
        return cursors.page(found[: limit + 1], limit, tick_position)

    def _views(self, id: ScheduleId) -> Sequence[TickView]:
        tables = self._transaction.tables
        ticks = [each for each in self._visible(tables.ticks.values()) if each.schedule_id == id]
        runs = [tables.durable.get(tick.id) for tick in ticks]
        return [
            TickView(tick, run.status, run.error) if run else TickView(tick, None, None)
            for tick, run in zip(ticks, runs, strict=True)
        ]

    def _shown(self) -> list[Schedule]:
        return self._visible(self._transaction.tables.schedules.values())

    def _visible(self, rows: Any) -> list[Any]:  # noqa: ANN401 - rows of either table
        administers, mine = self._transaction.scope.administers, self._transaction.mine
        return [row for row in self._transaction.ours(rows) if administers or mine(row)]

    async def _unchanged(self, seen: Schedule) -> Schedule:
        await self._transaction.writing()
        now = await self.get(seen.id)
        if now.revision != seen.revision:
            raise ConcurrentChange(f"Schedule '{seen.id}'")
        return now


class MemoryScheduleBook(ScheduleBook):
    def __init__(self, store: "MemoryStore", clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def now(self) -> datetime:
        return self._clock()

    async def due(self, limit: int) -> Due:
        now = self._clock()
        waiting = [
            (each.next_at, each)
            for each in self._store.tables.schedules.values()
            if each.enabled and each.next_at is not None and each.next_at <= now
        ]
        waiting.sort(key=lambda each: each[0])
        return Due(now, [each for _, each in waiting[:limit]])


class NotedDispatcher(RunDispatcher):
    def __init__(self) -> None:
        self.dispatched: list[DurableRun | Ticket] = []

    async def start(self, begin: Begin) -> None: ...

    async def dispatch(self, run: DurableRun | Ticket) -> None:
        self.dispatched.append(run)

    async def stop(self) -> None: ...


def _with_changes(now: Schedule, seen: Schedule, became: Schedule) -> Schedule:
    names = [each.name for each in fields(Schedule)]
    changed = {name for name in names if getattr(seen, name) != getattr(became, name)}
    return replace(now, **{name: getattr(became, name) for name in changed})


def _stored(schedule: Schedule) -> Schedule:
    return replace(schedule, order=order_of(order_json(schedule.order)))
