"""Schedules and what became of their ticks."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Index,
    Row,
    Table,
    delete,
    func,
    select,
    text,
    tuple_,
    update,
)

from runtime.domain.entities.durable import RunProblem
from runtime.domain.entities.runs import RunStatus
from runtime.domain.entities.schedules import Schedule, ScheduleTick, TickStatus, TickView
from runtime.domain.errors import ConcurrentChange, ScheduleNotFound, TooManySchedules
from runtime.domain.repositories.schedules import (
    ScheduleFilter,
    ScheduleRepository,
)
from runtime.domain.value_objects.ids import ProjectId, RunId, ScheduleId, UserId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.schedules import Backfill, Cron, Every, Overlap, Trigger
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Values,
    Words,
    metadata,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position
from runtime.infrastructure.repositories.durable_runs import OPEN, durable_runs
from runtime.infrastructure.repositories.run_orders import order_json, order_of

schedules = Table(
    "schedules",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("name", Words, nullable=False),
    Column("model", Words, nullable=False),
    Column("order", Json, nullable=False),
    Column("cron", Words),
    Column("timezone", Words),
    Column("every_s", BigInteger),
    Column("anchor", UtcDateTime),
    Column("backfill", Words, nullable=False),
    Column("max_backfill", BigInteger, nullable=False),
    Column("overlap", Words, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("deadline_s", Double),
    Column("enabled", Boolean, nullable=False),
    Column("paused_because", Words),
    Column("next_at", UtcDateTime),
    Column("last_tick", UtcDateTime),
    Column("last_run_id", Words),
    Column("last_error", Json, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index(None, "project_id", "owner_id", "created_at", "id"),
    Index(
        "ix_schedules_next_at",
        "next_at",
        postgresql_where=text("enabled"),
        sqlite_where=text("enabled"),
    ),
)
schedule_ticks = Table(
    "schedule_ticks",
    metadata,
    Column("id", Key, primary_key=True),
    Column("schedule_id", Key, nullable=False),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("manual", Boolean, nullable=False),
    Column("status", Words, nullable=False),
    Column("error", Json, nullable=False),
    Index(None, "schedule_id", "at", "id"),
    Index(None, "decided_at"),
)
CURSORS = Cursors("schedules")
ENABLED = text("schedules.enabled")
"""In the words of the index: SQLite does not take `enabled = 1` for the same."""
_c, _t = schedules.c, schedule_ticks.c


class SqlScheduleRepository(SqlRepository, ScheduleRepository):
    async def add(self, schedule: Schedule, most: int) -> None:
        if not await self._insert(schedules, _values(schedule)):
            raise ValueError(f"schedule {schedule.id} was written before")
        # One after the other: each counts what the one before has committed. SQLite has one
        # writer, which this is since the insert.
        if self._connection.dialect.name == "postgresql":
            owner = f"schedules {schedule.project_id} {schedule.owner_id}"
            await self._execute(select(func.pg_advisory_xact_lock(func.hashtextextended(owner, 0))))
        count = select(func.count()).where(
            _c.project_id == self._project, _c.owner_id == schedule.owner_id
        )
        if (await self._execute(count)).scalar_one() > most:
            raise TooManySchedules(most)

    async def get(self, id: ScheduleId) -> Schedule:
        query = select(schedules).where(_c.id == id, *self._visible(schedules))
        row = (await self._execute(query)).first()
        if row is None:
            raise ScheduleNotFound(id)
        return to_schedule(row)

    async def save(self, seen: Schedule, became: Schedule) -> Schedule:
        revision = seen.revision + 1
        statement = update(schedules).where(*self._seen_as(seen))
        values = {**_changes(seen, became), "revision": revision}
        if (await self._execute(statement.values(values))).rowcount != 1:
            await self._refuse(seen)
        return await self.get(seen.id)

    async def remove(self, schedule: Schedule) -> None:
        statement = delete(schedules).where(*self._seen_as(schedule))
        if (await self._execute(statement)).rowcount != 1:
            await self._refuse(schedule)
        ticks = delete(schedule_ticks).where(
            _t.schedule_id == schedule.id, *self._visible(schedule_ticks)
        )
        await self._execute(ticks)

    async def page(self, where: ScheduleFilter, *, limit: int, after: str | None) -> Page[Schedule]:
        query = select(schedules).where(*self._visible(schedules))
        if where.model is not None:
            query = query.where(_c.model == where.model)
        if where.enabled is not None:
            query = query.where(_c.enabled.is_(where.enabled))
        if after is not None:
            query = query.where(tuple_(_c.created_at, _c.id) < CURSORS.read(after))
        query = query.order_by(_c.created_at.desc(), _c.id.desc()).limit(limit + 1)
        found = [to_schedule(row) for row in await self._execute(query)]
        return CURSORS.page(found, limit, position)

    async def advance(self, seen: Schedule, became: Schedule) -> bool:
        statement = update(schedules).where(
            *self._seen_as(seen), _c.enabled, _c.next_at == seen.next_at
        )
        done = await self._execute(statement.values(_changes(seen, became)))
        return done.rowcount == 1

    async def record(self, tick: ScheduleTick) -> bool:
        return await self._insert(schedule_ticks, _tick_values(tick))

    async def busy(self, id: ScheduleId) -> bool:
        # From the runs that go on: they are few. SQLite uses their index for these very words.
        tick = select(_t.id).where(_t.id == durable_runs.c.id, _t.schedule_id == id)
        query = select(durable_runs.c.id).where(
            *self._visible(durable_runs),
            OPEN,
            tick.where(*self._visible(schedule_ticks)).exists(),
        )
        return (await self._execute(query.limit(1))).first() is not None

    async def ticks(self, id: ScheduleId, *, limit: int, after: str | None) -> Page[TickView]:
        runs, cursors = durable_runs.c, tick_cursors(id)
        query = (
            select(schedule_ticks, runs.status.label("run_status"), runs.error.label("run_error"))
            .outerjoin(durable_runs, (runs.id == _t.id) & (runs.project_id == _t.project_id))
            .where(_t.schedule_id == id, *self._visible(schedule_ticks))
        )
        if after is not None:
            query = query.where(tuple_(_t.at, _t.id) < cursors.read(after))
        query = query.order_by(_t.at.desc(), _t.id.desc()).limit(limit + 1)
        found = [_to_view(row) for row in await self._execute(query)]
        return cursors.page(found, limit, tick_position)

    def _seen_as(self, schedule: Schedule) -> Iterator[ColumnElement[bool]]:
        yield _c.id == schedule.id
        yield _c.revision == schedule.revision
        yield from self._visible(schedules)

    async def _refuse(self, schedule: Schedule) -> None:
        """Raises ScheduleNotFound, ConcurrentChange."""
        await self.get(schedule.id)
        raise ConcurrentChange(f"Schedule '{schedule.id}'")


def position(schedule: Schedule) -> Position:
    return Position(schedule.created_at, schedule.id)


def tick_position(view: TickView) -> Position:
    return Position(view.tick.at, view.tick.id)


def tick_cursors(id: ScheduleId) -> Cursors:
    return Cursors(f"ticks/{id}")


def _changes(seen: Schedule, became: Schedule) -> Values:
    before = _values(seen)
    return {name: value for name, value in _values(became).items() if value != before[name]}


def _values(schedule: Schedule) -> Mapping[str, object]:
    trigger, error = schedule.trigger, schedule.last_error
    cron = trigger if isinstance(trigger, Cron) else None
    every = trigger if isinstance(trigger, Every) else None
    return {
        "id": schedule.id,
        "project_id": schedule.project_id,
        "owner_id": schedule.owner_id,
        "name": schedule.name,
        "model": schedule.model,
        "order": order_json(schedule.order),
        "cron": cron and cron.expression,
        "timezone": cron and cron.timezone,
        "every_s": every and every.seconds,
        "anchor": every and every.anchor,
        "backfill": schedule.backfill,
        "max_backfill": schedule.max_backfill,
        "overlap": schedule.overlap,
        "priority": schedule.priority,
        "deadline_s": schedule.deadline_s,
        "enabled": schedule.enabled,
        "paused_because": schedule.paused_because,
        "next_at": schedule.next_at,
        "last_tick": schedule.last_tick,
        "last_run_id": schedule.last_run_id,
        "last_error": error and asdict(error),
        "failures": schedule.failures,
        "created_at": schedule.created_at,
        "updated_at": schedule.updated_at,
        "revision": schedule.revision,
    }


def to_schedule(row: Row[Any]) -> Schedule:
    return Schedule(
        id=ScheduleId(row.id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        name=row.name,
        model=row.model,
        order=order_of(row.order),
        trigger=_trigger(row),
        backfill=Backfill(row.backfill),
        max_backfill=row.max_backfill,
        overlap=Overlap(row.overlap),
        priority=row.priority,
        deadline_s=row.deadline_s,
        enabled=row.enabled,
        paused_because=row.paused_because,
        next_at=row.next_at,
        last_tick=row.last_tick,
        last_run_id=RunId(row.last_run_id) if row.last_run_id else None,
        last_error=_problem(row.last_error),
        failures=row.failures,
        created_at=row.created_at,
        updated_at=row.updated_at,
        revision=row.revision,
    )


def _trigger(row: Row[Any]) -> Trigger:
    if row.every_s is not None:
        return Every(row.every_s, row.anchor)
    return Cron(row.cron, row.timezone)


def _problem(stored: Mapping[str, str] | None) -> RunProblem | None:
    return RunProblem(**stored) if stored else None


def _tick_values(tick: ScheduleTick) -> Mapping[str, object]:
    return {
        "id": tick.id,
        "schedule_id": tick.schedule_id,
        "project_id": tick.project_id,
        "owner_id": tick.owner_id,
        "at": tick.at,
        "decided_at": tick.decided_at,
        "manual": tick.manual,
        "status": tick.status,
        "error": tick.error and asdict(tick.error),
    }


def _to_view(row: Row[Any]) -> TickView:
    tick = ScheduleTick(
        id=RunId(row.id),
        schedule_id=ScheduleId(row.schedule_id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        at=row.at,
        decided_at=row.decided_at,
        manual=row.manual,
        status=TickStatus(row.status),
        error=_problem(row.error),
    )
    status = RunStatus(row.run_status) if row.run_status else None
    return TickView(tick, status, _problem(row.run_error))
