"""Appends to the logs of durable runs, fenced by their attempts."""

from collections.abc import Sequence

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.entities.runs import RunStatus
from runtime.domain.repositories.durable import AttemptEntry, AttemptLog
from runtime.domain.services.signals import Signal
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import insert_if_new
from runtime.infrastructure.repositories.checkpoints import keep
from runtime.infrastructure.repositories.durable_runs import durable_runs, take_writer
from runtime.infrastructure.repositories.run_events import event_rows, run_events
from runtime.infrastructure.signals.payloads import notify

_c = durable_runs.c


class SqlAttemptLog(AttemptLog):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def append(self, entries: Sequence[AttemptEntry]) -> Sequence[bool]:
        with refusals():
            async with self._engine.begin() as connection:
                held = await _held(connection, entries)
                rows = [row for entry in entries if entry.run in held for row in _rows(entry)]
                for entry in entries:
                    if entry.progress and entry.run in held:
                        await keep(connection, entry.run, entry.attempt, entry.progress)
                if rows:
                    # What is there already was written by this attempt: it alone may write.
                    insert = insert_if_new(run_events, connection.dialect.name)
                    await connection.execute(insert, rows)
                    await notify(connection, [Signal("log", RunId(run)) for run in held])
        return [entry.run in held for entry in entries]


async def _held(connection: AsyncConnection, entries: Sequence[AttemptEntry]) -> set[str]:
    """Those whose attempt is the current one, and stays so until the commit."""
    attempts = [(entry.run, entry.attempt) for entry in entries]
    query = select(_c.id).where(
        tuple_(_c.id, _c.attempt).in_(attempts), _c.status == RunStatus.RUNNING
    )
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(read=True)
    else:
        await take_writer(connection)
    return set((await connection.execute(query)).scalars())


def _rows(entry: AttemptEntry) -> list[dict[str, object]]:
    rows = event_rows(entry.scope, entry.run, entry.after, entry.events)
    return [{**row, "attempt": entry.attempt} for row in rows]
