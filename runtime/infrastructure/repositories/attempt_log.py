"""Appends to the logs of durable runs, fenced by their attempts."""

from collections.abc import Sequence

from sqlalchemy import select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.entities.runs import RunStatus
from runtime.domain.repositories.durable import AttemptEntry, AttemptLog
from runtime.domain.services.signals import Signal
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.database import refusals
from runtime.infrastructure.event_json import event_to_json
from runtime.infrastructure.repositories.base import json_text
from runtime.infrastructure.repositories.checkpoints import keep
from runtime.infrastructure.repositories.durable_runs import durable_runs, take_writer
from runtime.infrastructure.signals.payloads import notify

_c = durable_runs.c
_Row = tuple[str, int, str, str, str, int]
_COLUMNS = ("run_id", "seq", "project_id", "owner_id", "event", "attempt")
_INTO = f"INSERT INTO run_events ({', '.join(_COLUMNS)})"
# By hand: a batch in one statement that is the same for every size, and nothing done per value.
_INSERT_ROWS = f"{_INTO} VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_INSERT_ARRAYS = text(
    f"{_INTO} SELECT * FROM unnest(CAST(:run_id AS text[]), CAST(:seq AS bigint[]), "
    "CAST(:project_id AS text[]), CAST(:owner_id AS text[]), CAST(:event AS text[]), "
    "CAST(:attempt AS bigint[])) ON CONFLICT DO NOTHING"
)


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
                    await _insert(connection, rows)
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


async def _insert(connection: AsyncConnection, rows: Sequence[_Row]) -> None:
    """What is there already was written by this attempt: it alone may write."""
    if connection.dialect.name == "postgresql":
        columns = dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
        await connection.execute(_INSERT_ARRAYS, columns)
    else:
        await connection.exec_driver_sql(_INSERT_ROWS, list(rows))


def _rows(entry: AttemptEntry) -> list[_Row]:
    scope = entry.scope
    return [
        (
            entry.run,
            seq,
            scope.project_id,
            scope.user_id,
            json_text(event_to_json(event)),
            entry.attempt,
        )
        for seq, event in enumerate(entry.events, entry.after + 1)
    ]
