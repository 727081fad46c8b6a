from collections.abc import Sequence

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.repositories.responses import LogEntry, RunEventLog
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import insert_if_new
from runtime.infrastructure.repositories.responses import ending
from runtime.infrastructure.repositories.run_events import event_rows, run_events

Written = set[tuple[str, int]]


class SqlRunEventLog(RunEventLog):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def append(self, entries: Sequence[LogEntry]) -> Sequence[bool]:
        with refusals():
            async with self._engine.begin() as connection:
                going_on = [entry for entry in entries if await _ends(connection, entry)]
                written = await _add(connection, going_on)
                won = {entry.run for entry in going_on if (entry.run, entry.after + 1) in written}
                for entry in going_on:
                    if entry.run not in won:
                        await _take_back(connection, entry, written)
        return [entry.run in won for entry in entries]


async def _ends(connection: AsyncConnection, entry: LogEntry) -> bool:
    if entry.ends is None:
        return True
    return (await connection.execute(ending(entry.ends))).rowcount == 1


async def _add(connection: AsyncConnection, entries: Sequence[LogEntry]) -> Written:
    rows = [row for entry in entries for row in event_rows(entry)]
    if not rows:
        return set()
    statement = insert_if_new(run_events, connection.dialect.name)
    statement = statement.returning(run_events.c.run_id, run_events.c.seq)
    return {(row.run_id, row.seq) for row in await connection.execute(statement, rows)}


async def _take_back(connection: AsyncConnection, entry: LogEntry, written: Written) -> None:
    """What found a place behind a number that was taken goes again."""
    numbers = [seq for run, seq in written if run == entry.run]
    await connection.execute(
        delete(run_events).where(run_events.c.run_id == entry.run, run_events.c.seq.in_(numbers))
    )
