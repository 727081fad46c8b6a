"""Durable runs, and the workers that have them."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Row,
    Table,
    Update,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.domain.entities.durable import Callback, DurableRun, Origin, RunProblem
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import RunNotFound
from runtime.domain.repositories.durable import DurableRunRepository
from runtime.domain.services.signals import Signal, SignalKind
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


async def take_writer(connection: AsyncConnection) -> None:
    """SQLite takes its writer's lock with the first write of a transaction, and not with a read:
    what is read behind this stays true until the commit."""
    await connection.execute(delete(workers).where(workers.c.id == ""))


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
