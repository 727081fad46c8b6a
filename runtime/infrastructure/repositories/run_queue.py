"""The queue that durable runs are, for the processes that carry them out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Select,
    TextClause,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.entities.runs import RunStatus
from runtime.domain.repositories.durable import RunQueue, Share, Ticket
from runtime.domain.services.signals import Signal
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import (
    LineId,
    ProjectId,
    RunId,
    UserId,
    WorkerId,
)
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.durable_runs import (
    OPEN,
    durable_runs,
    take_writer,
    workers,
)
from runtime.infrastructure.signals.payloads import notify

_CLAIM_LOCK = 0x72756E71
"""Claims of all processes are made one after the other: shares are kept exactly."""
_c = durable_runs.c
_TICKET = (_c.id, _c.project_id, _c.owner_id, _c.line_id, _c.attempt, _c.status)


class SqlRunQueue(RunQueue):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(self, worker: WorkerId, room: int, share: Share) -> Sequence[Ticket]:
        if room <= 0:
            return ()
        with refusals():
            async with self._engine.begin() as connection:
                if not await _any_due(connection):
                    return ()
                await _one_at_a_time(connection)
                chosen = await _next(connection, room, share)
                return await _claimed(connection, worker, chosen)

    async def claim_one(self, worker: WorkerId, id: RunId, share: Share) -> Ticket | None:
        with refusals():
            async with self._engine.begin() as connection:
                await _one_at_a_time(connection)
                query = select(*_TICKET).where(_c.id == id, *_due(_utc_now()))
                candidates = [_ticket(row) for row in await connection.execute(query)]
                room = await _room(connection, share) if candidates else _Room(share)
                chosen = [each.id for each in candidates if room.admits(each)]
                claimed = await _claimed(connection, worker, chosen)
        return claimed[0] if claimed else None

    async def due(self, at: datetime, *, limit: int) -> Sequence[Ticket]:
        query = select(*_TICKET).where(*_due(at)).order_by(_c.created_at, _c.id).limit(limit)
        return await self._tickets(query)

    async def held(self, worker: WorkerId) -> Sequence[Ticket]:
        query = select(*_TICKET).where(OPEN, _c.status == RunStatus.RUNNING, _c.worker == worker)
        return await self._tickets(query)

    async def abandoned(self, silent_s: float, *, limit: int) -> Sequence[Ticket]:
        now = _clock(self._engine.dialect.name)
        query = select(*_TICKET).outerjoin(workers, workers.c.id == _c.worker)
        silent = or_(workers.c.id.is_(None), workers.c.beat_at < now - silent_s)
        return await self._tickets(
            query.where(OPEN, _c.status == RunStatus.RUNNING, silent).limit(limit)
        )

    async def give_back(self, ticket: Ticket) -> bool:
        statement = update(durable_runs).where(
            _c.id == ticket.id,
            _c.status == RunStatus.RUNNING,
            _c.attempt == ticket.attempt,
        )
        with refusals():
            async with self._engine.begin() as connection:
                done = await connection.execute(
                    statement.values(status=RunStatus.QUEUED, worker=None)
                )
                if done.rowcount == 1:
                    await notify(connection, [Signal("queue", ticket.id)])
                return done.rowcount == 1

    async def expired(self, at: datetime, *, limit: int) -> Sequence[Ticket]:
        query = select(*_TICKET).where(OPEN, _c.deadline < at).limit(limit)
        return await self._tickets(query)

    async def going_on(self, attempts: Mapping[RunId, int]) -> set[RunId]:
        if not attempts:
            return set()
        query = select(_c.id, _c.attempt).where(_c.id.in_(attempts), _c.status == RunStatus.RUNNING)
        with refusals():
            async with self._engine.connect() as connection:
                rows = await connection.execute(query)
                return {RunId(row.id) for row in rows if row.attempt == attempts[row.id]}

    async def forget_workers(self, silent_s: float) -> None:
        now = _clock(self._engine.dialect.name)
        busy = select(_c.worker).where(OPEN, _c.status == RunStatus.RUNNING, _c.worker.is_not(None))
        gone = delete(workers).where(workers.c.beat_at < now - silent_s, workers.c.id.not_in(busy))
        with refusals():
            async with self._engine.begin() as connection:
                await connection.execute(gone)

    async def _tickets(self, query: Select[Any]) -> Sequence[Ticket]:
        with refusals():
            async with self._engine.connect() as connection:
                return [_ticket(row) for row in await connection.execute(query)]


class _Room:
    """What shares leave, while runs are chosen."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self.by_owner: Counter[tuple[str, str]] = Counter()
        self._by_line: Counter[str] = Counter()

    def add(self, ticket: Ticket) -> None:
        self.by_owner[_owner(ticket)] += 1
        self._by_line[ticket.line_id] += 1

    def admits(self, ticket: Ticket) -> bool:
        per_user, per_agent = self._share.per_user, self._share.per_agent
        return (per_user is None or self.by_owner[_owner(ticket)] < per_user) and (
            per_agent is None or self._by_line[ticket.line_id] < per_agent
        )


async def _any_due(connection: AsyncConnection) -> bool:
    """A look without a lock: most claims find nothing."""
    query = select(_c.id).where(*_due(_utc_now())).limit(1)
    return (await connection.execute(query)).first() is not None


async def _next(connection: AsyncConnection, room: int, share: Share) -> Sequence[RunId]:
    """Owners take turns, beginning with whoever has the fewest going on."""
    taken = await _room(connection, share)
    lines = await _lines(connection, room)
    chosen: list[RunId] = []
    while lines and len(chosen) < room:
        owner = min(lines, key=lambda each: (taken.by_owner[each], lines[each][0][0]))
        _, ticket = lines[owner].pop(0)
        if taken.admits(ticket):
            taken.add(ticket)
            chosen.append(ticket.id)
        if not lines[owner]:
            del lines[owner]
    return chosen


async def _room(connection: AsyncConnection, share: Share) -> _Room:
    room = _Room(share)
    query = select(*_TICKET).where(OPEN, _c.status == RunStatus.RUNNING)
    for row in await connection.execute(query):
        room.add(_ticket(row))
    return room


async def _lines(
    connection: AsyncConnection, room: int
) -> dict[tuple[str, str], list[tuple[datetime, Ticket]]]:
    """Of every owner the runs that come first: twice as many as there is room for, since some
    may be of agents that have their share."""
    place = func.row_number().over(
        partition_by=(_c.project_id, _c.owner_id),
        order_by=(_c.priority.desc(), _c.created_at, _c.id),
    )
    first = select(*_TICKET, _c.created_at, place.label("place")).where(*_due(_utc_now()))
    queued = first.subquery()
    query = select(queued).where(queued.c.place <= 2 * room).order_by(queued.c.place)
    lines: dict[tuple[str, str], list[tuple[datetime, Ticket]]] = {}
    for row in await connection.execute(query):
        ticket = _ticket(row)
        lines.setdefault(_owner(ticket), []).append((row.created_at, ticket))
    return lines


async def _claimed(
    connection: AsyncConnection, worker: WorkerId, chosen: Sequence[RunId]
) -> Sequence[Ticket]:
    if not chosen:
        return ()
    statement = (
        update(durable_runs)
        .where(_c.id.in_(chosen), _c.status == RunStatus.QUEUED)
        .values(
            status=RunStatus.RUNNING,
            attempt=_c.attempt + 1,
            worker=worker,
            started_at=func.coalesce(_c.started_at, _utc_now()),
        )
        .returning(*_TICKET)
    )
    found = {row.id: _ticket(row) for row in await connection.execute(statement)}
    return [found[id] for id in chosen if id in found]


async def _one_at_a_time(connection: AsyncConnection) -> None:
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(_CLAIM_LOCK)))
    else:
        await take_writer(connection)


def _due(at: datetime) -> Iterator[ColumnElement[bool] | TextClause]:
    yield OPEN
    yield _c.status == RunStatus.QUEUED
    yield or_(_c.not_before.is_(None), _c.not_before <= at)
    yield or_(_c.deadline.is_(None), _c.deadline > at)


def _clock(dialect: str) -> ColumnElement[float] | float:
    """In seconds: the database's on PostgreSQL, which all hosts share."""
    if dialect == "postgresql":
        return func.extract("epoch", func.clock_timestamp()).cast(Double)
    return time()


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _owner(ticket: Ticket) -> tuple[str, str]:
    return ticket.scope.project_id, ticket.scope.user_id


def _ticket(row: Any) -> Ticket:  # noqa: ANN401 - rows of several shapes
    return Ticket(
        RunId(row.id),
        Scope(ProjectId(row.project_id), UserId(row.owner_id)),
        LineId(row.line_id),
        row.attempt,
        RunStatus(row.status),
    )
