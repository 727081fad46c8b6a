from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Index,
    Row,
    Select,
    Table,
    func,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.limits import used_by
from runtime.domain.entities.runs import Run, RunStatus, StepRecord, ToolRecord
from runtime.domain.errors import RunNotFound
from runtime.domain.repositories.runs import RunFilter, RunLog, RunRepository, RunTotals
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import AgentId, KeyId, LineId, ProjectId, RunId, UserId
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    insert_if_new,
    insertable,
    metadata,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position
from runtime.infrastructure.repositories.durable_runs import (
    OPEN,
    durable_runs,
    to_durable_run,
)
from runtime.infrastructure.repositories.limits import Usd, add_usage

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    # No foreign keys: a run outlives its agent.
    Column("agent_id", Key, nullable=False),
    Column("line_id", Key, nullable=False),
    Column("session_id", Key),
    Column("model", Words, nullable=False),
    Column("status", Key, nullable=False),
    Column("finish_reason", Words),
    Column("error_code", Words),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("first_token_ms", Double),
    Column("duration_ms", Double, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usage_estimated", Boolean, nullable=False),
    Column("models", Json, nullable=False),
    Column("steps", Json, nullable=False),
    Column("tools", Json, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("key_id", Key),
    Column("cost", Usd),
    Index(None, "project_id", "started_at", "id"),
    Index(None, "project_id", "owner_id", "started_at", "id"),
    Index(None, "project_id", "agent_id", "started_at", "id"),
    Index(None, "project_id", "status", "started_at", "id"),
    Index(None, "project_id", "session_id", "started_at", "id"),
)
_CURSORS = Cursors("runs")


class SqlRunRepository(SqlRepository, RunRepository):
    async def get(self, id: RunId) -> Run:
        query = select(runs).where(*self._visible(runs), runs.c.id == id)
        row = (await self._execute(query)).first()
        if row is None:
            raise RunNotFound(id)
        return _to_run(row)

    async def page(
        self, where: RunFilter, *, limit: int, after: str | None
    ) -> Page[Run | DurableRun]:
        behind = None if after is None else _CURSORS.read(after)
        seen: dict[RunId, Run | DurableRun] = {}
        # In this order: one that ends in between is found twice, and never missed.
        if where.status is None or not where.status.final:
            query = self._newest(durable_runs, durable_runs.c.created_at, where, behind, limit)
            query = query.where(OPEN)
            seen |= {row.id: to_durable_run(row) for row in await self._execute(query)}
        if where.status is None or where.status.final:
            query = self._newest(runs, runs.c.started_at, where, behind, limit)
            seen |= {row.id: _to_run(row) for row in await self._execute(query)}
        found = sorted(seen.values(), key=run_position, reverse=True)
        return _CURSORS.page(found[: limit + 1], limit, run_position)

    def _newest(
        self,
        table: Table,
        since: ColumnElement[datetime],
        where: RunFilter,
        behind: Position | None,
        limit: int,
    ) -> Select[Any]:
        given = {"agent_id": where.agent_id, "status": where.status, "session_id": where.session_id}
        query = select(table).where(
            *self._visible(table),
            *(table.c[name] == value for name, value in given.items() if value is not None),
        )
        if behind is not None:
            query = query.where(tuple_(since, table.c.id) < behind)
        return query.order_by(since.desc(), table.c.id.desc()).limit(limit + 1)

    async def record(self, run: Run) -> None:
        with refusals():
            await _write(self._connection, [run])

    async def totals(self) -> RunTotals:
        query = select(
            func.count().label("runs"),
            func.count().filter(runs.c.status == RunStatus.FAILED).label("failed"),
            func.coalesce(func.avg(runs.c.duration_ms), 0.0).label("average_ms"),
        ).where(*self._visible(runs))
        row = (await self._execute(query)).one()
        return RunTotals(row.runs, row.failed, row.average_ms)


def run_position(run: Run | DurableRun) -> Position:
    return Position(run.started_at if isinstance(run, Run) else run.created_at, run.id)


class SqlRunLog(RunLog):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def write(self, runs_ended: Sequence[Run]) -> None:
        if not runs_ended:
            return
        with refusals():
            async with self._engine.begin() as connection:
                await _write(connection, runs_ended)


async def _write(connection: AsyncConnection, runs_ended: Sequence[Run]) -> None:
    rows = [insertable(runs, _values(run)) for run in runs_ended]
    insert = insert_if_new(runs, connection.dialect.name).returning(runs.c.id)
    new = set((await connection.execute(insert, rows)).scalars())
    await add_usage(connection, used_by(run for run in runs_ended if run.id in new))


def _values(run: Run) -> Mapping[str, object]:
    return {
        "id": run.id,
        "project_id": run.project_id,
        "owner_id": run.owner_id,
        "agent_id": run.agent_id,
        "line_id": run.line_id,
        "session_id": run.session_id,
        "model": run.model,
        "status": run.status,
        "finish_reason": run.finish_reason,
        "error_code": run.error_code,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "first_token_ms": run.first_token_ms,
        "duration_ms": run.duration_ms,
        **asdict(run.usage),
        "usage_estimated": run.usage_estimated,
        "models": run.models,
        "steps": [asdict(step) for step in run.steps],
        "tools": [asdict(tool) for tool in run.tools],
        "metadata": run.metadata,
        "key_id": run.key_id,
        "cost": run.cost,
    }


def _to_run(row: Row[Any]) -> Run:
    return Run(
        id=RunId(row.id),
        agent_id=AgentId(row.agent_id),
        line_id=LineId(row.line_id),
        model=row.model,
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        status=RunStatus(row.status),
        finish_reason=row.finish_reason,
        error_code=row.error_code,
        started_at=row.started_at,
        ended_at=row.ended_at,
        first_token_ms=row.first_token_ms,
        duration_ms=row.duration_ms,
        usage=Usage(row.input_tokens, row.output_tokens, row.cached_tokens, row.reasoning_tokens),
        usage_estimated=row.usage_estimated,
        models=tuple(row.models),
        steps=tuple(StepRecord(**step) for step in row.steps),
        tools=tuple(ToolRecord(**tool) for tool in row.tools),
        session_id=row.session_id,
        metadata=row.metadata,
        key_id=KeyId(row.key_id) if row.key_id else None,
        cost=row.cost,
    )
