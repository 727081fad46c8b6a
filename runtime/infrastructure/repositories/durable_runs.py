"""Durable runs: their rows, and the queue that these are."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from time import time
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    Index,
    Row,
    Select,
    Table,
    TextClause,
    Update,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.entities.durable import Callback, DurableRun, Origin, RunProblem
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import RunNotFound
from runtime.domain.repositories.durable import DurableRunRepository, RunQueue, Share, Ticket
from runtime.domain.services.signals import Signal, SignalKind
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import (
    AgentId,
    LineId,
    ProjectId,
    RunId,
    UserId,
    WorkerId,
)
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    metadata,
)
from runtime.infrastructure.repositories.run_orders import order_json, order_of
from runtime.infrastructure.signals.payloads import notify

GOING_ON = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING)
OPEN = text("durable_runs.status IN ('queued', 'running', 'waiting')")
"""Goes with every question about runs that have not ended: SQLite takes a partial index only where
it finds the index's own words."""
_GOING_ON_SQL = text("status IN ('queued', 'running', 'waiting')")
_WITH_DEADLINE_SQL = text(f"deadline IS NOT NULL AND {_GOING_ON_SQL.text}")
_CLAIM_LOCK = 0x72756E71
"""Claims of all processes are made one after the other: shares are kept exactly."""

durable_runs = Table(
    "durable_runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("agent_id", Key, nullable=False),
    Column("line_id", Key, nullable=False),
    Column("session_id", Words),
    Column("model", Words, nullable=False),
    Column("order", Json, nullable=False),
    Column("status", Key, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("not_before", UtcDateTime),
    Column("deadline", UtcDateTime),
    Column("attempt", BigInteger, nullable=False),
    Column("worker", Key),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("error", Json, nullable=False),
    Column("origin", Json, nullable=False),
    Column("callback", Json, nullable=False),
    Index(
        "ix_durable_runs_going_on",
        "status",
        "project_id",
        "owner_id",
        "created_at",
        postgresql_where=_GOING_ON_SQL,
        sqlite_where=_GOING_ON_SQL,
    ),
    Index(
        "ix_durable_runs_deadline",
        "deadline",
        postgresql_where=_WITH_DEADLINE_SQL,
        sqlite_where=_WITH_DEADLINE_SQL,
    ),
    Index(None, "ended_at"),
)
workers = Table(
    "workers",
    metadata,
    Column("id", Key, primary_key=True),
    Column("beat_at", Double, nullable=False),
    Column("process", Words, nullable=False),
)
_c = durable_runs.c
_TICKET = (_c.id, _c.project_id, _c.owner_id, _c.line_id, _c.attempt, _c.status)


class SqlDurableRunRepository(SqlRepository, DurableRunRepository):
    async def add(self, run: DurableRun) -> bool:
        new = await self._insert(durable_runs, _values(run))
        if new:
            await self._signal(run.id, "queue")
        return new

    async def get(self, id: RunId) -> DurableRun:
        query = select(durable_runs).where(_c.id == id, *self._visible(durable_runs))
        row = (await self._execute(query)).first()
        if row is None:
            raise RunNotFound(id)
        return to_durable_run(row)

    async def some(self, ids: Collection[RunId]) -> Mapping[RunId, DurableRun]:
        query = select(durable_runs).where(_c.id.in_(ids), *self._visible(durable_runs))
        return {row.id: to_durable_run(row) for row in await self._execute(query)}

    async def queued(self) -> int:
        query = select(func.count()).where(
            OPEN,
            _c.status == RunStatus.QUEUED,
            _c.project_id == self._project,
            _c.owner_id == self._scope.user_id,
        )
        return int((await self._execute(query)).scalar_one())

    async def finish(self, run: DurableRun, *, attempt: int | None = None) -> bool:
        statement = update(durable_runs).where(
            _c.id == run.id, *self._visible(durable_runs), _c.status.in_(GOING_ON)
        )
        if attempt is not None:
            statement = statement.where(_c.attempt == attempt, _c.status == RunStatus.RUNNING)
        ended = statement.values(
            status=run.status,
            ended_at=run.ended_at,
            error=run.error and asdict(run.error),
            worker=None,
        )
        return await self._one(ended, run.id, "control")

    async def suspend(self, id: RunId, attempt: int) -> bool:
        waiting = self._running(id, attempt).values(status=RunStatus.WAITING)
        return await self._one(waiting, id, "log")

    async def release(self, id: RunId, attempt: int, not_before: datetime | None = None) -> bool:
        statement = self._running(id, attempt).values(status=RunStatus.QUEUED)
        if not_before:
            statement = statement.values(not_before=not_before)
        return await self._one(statement, id, "queue")

    async def waits(self, id: RunId) -> bool:
        query = select(_c.status).where(_c.id == id, *self._visible(durable_runs))
        if self._connection.dialect.name == "postgresql":
            query = query.with_for_update()
        else:
            with refusals():
                await take_writer(self._connection)
        return (await self._execute(query)).scalar() == RunStatus.WAITING

    async def wake(self, id: RunId) -> bool:
        statement = update(durable_runs).where(
            _c.id == id, *self._visible(durable_runs), _c.status == RunStatus.WAITING
        )
        return await self._one(statement.values(status=RunStatus.QUEUED), id, "queue")

    def _running(self, id: RunId, attempt: int) -> Update:
        return (
            update(durable_runs)
            .where(
                _c.id == id,
                *self._visible(durable_runs),
                _c.status == RunStatus.RUNNING,
                _c.attempt == attempt,
            )
            .values(worker=None)
        )

    async def _one(self, statement: Update, id: RunId, news: SignalKind) -> bool:
        done = (await self._execute(statement)).rowcount == 1
        if done:
            await self._signal(id, news)
        return done

    async def _signal(self, id: RunId, news: SignalKind) -> None:
        await notify(self._connection, [Signal(news, id)])


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


async def take_writer(connection: AsyncConnection) -> None:
    """SQLite takes its writer's lock with the first write of a transaction, and not with a read:
    what is read behind this stays true until the commit."""
    await connection.execute(delete(workers).where(workers.c.id == ""))


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


def _values(run: DurableRun) -> dict[str, object]:
    return {
        "id": run.id,
        "project_id": run.project_id,
        "owner_id": run.owner_id,
        "agent_id": run.agent_id,
        "line_id": run.line_id,
        "session_id": run.order.session,
        "model": run.model,
        "order": order_json(run.order),
        "status": run.status,
        "priority": run.priority,
        "created_at": run.created_at,
        "not_before": run.not_before,
        "deadline": run.deadline,
        "attempt": run.attempt,
        "worker": run.worker,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "error": run.error and asdict(run.error),
        "origin": run.origin and asdict(run.origin),
        "callback": run.callback and asdict(run.callback),
    }


def to_durable_run(row: Row[Any]) -> DurableRun:
    return DurableRun(
        id=RunId(row.id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        agent_id=AgentId(row.agent_id),
        line_id=LineId(row.line_id),
        model=row.model,
        order=order_of(row.order),
        status=RunStatus(row.status),
        priority=row.priority,
        created_at=row.created_at,
        not_before=row.not_before,
        deadline=row.deadline,
        attempt=row.attempt,
        worker=WorkerId(row.worker) if row.worker else None,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=RunProblem(**row.error) if row.error else None,
        origin=Origin(**row.origin) if row.origin else None,
        callback=Callback(**row.callback) if row.callback else None,
    )
