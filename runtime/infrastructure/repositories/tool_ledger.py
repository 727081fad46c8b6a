"""What tools have done for durable runs."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    PrimaryKeyConstraint,
    Row,
    Table,
    Update,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.entities.runs import RunStatus
from runtime.domain.entities.tool_calls import RecordedCall
from runtime.domain.repositories.durable import LedgerCall, ToolLedger
from runtime.domain.repositories.tool_calls import SHOWN_OUTPUT, ToolCallRepository
from runtime.domain.services.durability import AttemptLost, Entered
from runtime.domain.services.tools import ToolOutcome
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import (
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    insertable,
    metadata,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position
from runtime.infrastructure.repositories.durable_runs import durable_runs, take_writer

tool_calls = Table(
    "tool_calls",
    metadata,
    # No foreign key: whatever is a run may call tools.
    Column("run_id", Key),
    Column("call_id", Key),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("step", Words, nullable=False),
    Column("occurrence", BigInteger, nullable=False),
    Column("name", Words, nullable=False),
    Column("arguments", Words, nullable=False),
    Column("repeatable", Boolean, nullable=False),
    Column("status", Words, nullable=False),
    Column("output", Words),
    Column("started_at", UtcDateTime, nullable=False),
    Column("duration_ms", Double),
    PrimaryKeyConstraint("run_id", "call_id"),
)
_OPEN = ("asked", "started")


class SqlToolLedger(ToolLedger):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def enter(self, call: LedgerCall, found: Collection[str] = ()) -> Entered:
        async with self._current(call) as connection:
            row = await _same(connection, call, found)
            if row is None:
                return await _add(connection, call)
            if row.status not in _OPEN:
                outcome = ToolOutcome(row.status, row.output)
                return Entered("finished", row.call_id, row.attempt, outcome, row.duration_ms)
            if row.status == "asked":
                return await _asked(connection, call, row)
            if row.attempt == call.attempt:
                return Entered("new", row.call_id, row.attempt)
            if not call.repeatable:
                return Entered("unknown", row.call_id, row.attempt)
            call = replace(call, call_id=row.call_id)
            await connection.execute(_open(call).values(attempt=call.attempt))
            return Entered("repeat", row.call_id, call.attempt)

    async def begin(self, call: LedgerCall) -> None:
        begun = {"status": "started", "attempt": call.attempt, "started_at": call.at}
        async with self._current(call) as connection:
            await connection.execute(_open(call).values(begun))

    async def finish(self, call: LedgerCall, outcome: ToolOutcome, duration_ms: float) -> None:
        ended = {"status": outcome.status, "output": outcome.output, "duration_ms": duration_ms}
        async with self._current(call) as connection:
            await connection.execute(_open(call).values(ended))

    async def copy(self, source: RunId, target: RunId) -> None:
        names = [each.name for each in tool_calls.columns]
        changed: dict[str, Any] = {"run_id": literal(target), "attempt": literal(0)}
        values: list[Any] = [changed.get(name, tool_calls.c[name]) for name in names]
        there = select(tool_calls.c.call_id).where(tool_calls.c.run_id == target)
        query = select(*values).where(
            tool_calls.c.run_id == source, tool_calls.c.call_id.not_in(there)
        )
        with refusals():
            async with self._engine.begin() as connection:
                await connection.execute(insert(tool_calls).from_select(names, query))

    @asynccontextmanager
    async def _current(self, call: LedgerCall) -> AsyncIterator[AsyncConnection]:
        """A transaction in which the attempt stays the run's. Raises AttemptLost."""
        mine = select(literal(1)).where(
            durable_runs.c.id == call.run,
            durable_runs.c.attempt == call.attempt,
            durable_runs.c.status == RunStatus.RUNNING,
        )
        with refusals():
            async with self._engine.begin() as connection:
                if connection.dialect.name == "sqlite":
                    await take_writer(connection)
                else:
                    mine = mine.with_for_update(read=True)
                if (await connection.execute(mine)).first() is None:
                    raise AttemptLost
                yield connection


async def _same(
    connection: AsyncConnection, call: LedgerCall, found: Collection[str]
) -> Row[Any] | None:
    """What is on record of this call."""
    columns = tool_calls.c
    query = select(columns.call_id).where(
        columns.run_id == call.run,
        columns.step == call.step,
        columns.name == call.name,
        columns.arguments == call.arguments,
    )
    query = query.order_by(columns.call_id != call.call_id, columns.occurrence, columns.call_id)
    ids = [id for id in (await connection.execute(query)).scalars() if id not in found]
    if not ids:
        return None
    query = select(tool_calls).where(columns.run_id == call.run, columns.call_id == ids[0])
    return (await connection.execute(query)).one()


async def _add(connection: AsyncConnection, call: LedgerCall) -> Entered:
    """Under its own id or, where another call has that, under one made of it."""
    columns = tool_calls.c
    query = select(columns.call_id).where(columns.run_id == call.run)
    query = query.where(columns.call_id.startswith(call.call_id, autoescape=True))
    taken = set((await connection.execute(query)).scalars())
    number, id = 1, call.call_id
    while id in taken:
        number += 1
        id = f"{call.call_id}~{number}"
    values = insertable(tool_calls, _values(replace(call, call_id=id)))
    await connection.execute(insert(tool_calls), values)
    return Entered("asked" if call.ask else "new", id, call.attempt)


async def _asked(connection: AsyncConnection, call: LedgerCall, row: Row[Any]) -> Entered:
    if call.ask:
        return Entered("asked", row.call_id, row.attempt)
    # The tool asks nobody any more.
    begun = {"status": "started", "attempt": call.attempt}
    await connection.execute(_open(replace(call, call_id=row.call_id)).values(begun))
    return Entered("new", row.call_id, call.attempt)


def _open(call: LedgerCall) -> Update:
    """Changes a call that has not finished; what has, stays as it is."""
    columns = tool_calls.c
    return update(tool_calls).where(
        columns.run_id == call.run, columns.call_id == call.call_id, columns.status.in_(_OPEN)
    )


def _values(call: LedgerCall) -> Mapping[str, object]:
    return {
        "run_id": call.run,
        "call_id": call.call_id,
        "project_id": call.scope.project_id,
        "owner_id": call.scope.user_id,
        "attempt": call.attempt,
        "step": call.step,
        "occurrence": call.occurrence,
        "name": call.name,
        "arguments": call.arguments,
        "repeatable": call.repeatable,
        "status": "asked" if call.ask else "started",
        "output": None,
        "started_at": call.at,
        "duration_ms": None,
    }


class SqlToolCallRepository(SqlRepository, ToolCallRepository):
    async def of_run(self, run: RunId, *, limit: int, after: str | None) -> Page[RecordedCall]:
        cursors = Cursors(f"tool_calls/{run}")
        columns = tool_calls.c
        shown = [each for each in columns if each.name != "output"]
        output = func.substr(columns.output, 1, SHOWN_OUTPUT).label("output")
        query = select(*shown, output).where(*self._visible(tool_calls), columns.run_id == run)
        query = query.order_by(columns.started_at, columns.call_id).limit(limit + 1)
        if after is not None:
            query = query.where(tuple_(columns.started_at, columns.call_id) > cursors.read(after))
        found = [_to_call(row) for row in await self._execute(query)]
        return cursors.page(found, limit, lambda call: Position(call.started_at, call.call_id))


def _to_call(row: Row[Any]) -> RecordedCall:
    return RecordedCall(
        run_id=RunId(row.run_id),
        call_id=row.call_id,
        step=row.step,
        name=row.name,
        arguments=row.arguments,
        status=row.status,
        output=row.output,
        attempt=row.attempt,
        started_at=row.started_at,
        duration_ms=row.duration_ms,
    )
