"""aiosqlite with one trip to the connection's thread for each statement, not four.

A trip costs more than most statements do.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Self

import aiosqlite

Row = tuple[Any, ...]


class Connection(aiosqlite.Connection):
    def cursor(self) -> "Cursor":  # type: ignore[override] # what SQLAlchemy enters by itself
        return Cursor(self)

    async def at_its_thread(self, work: Callable[[], None]) -> None:
        await self._execute(work)  # type: ignore[no-untyped-call]

    async def rollback(self) -> None:
        # Every connection that goes back to its pool comes by here, most after a SELECT.
        if self.in_transaction:
            await super().rollback()


class Cursor:
    """What SQLAlchemy asks of one. The rows are there with the statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Sequence[Row] = ()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        await self._connection.at_its_thread(partial(self._run, sql, parameters))

    async def executemany(self, sql: str, parameters: Iterable[Sequence[object]]) -> None:
        await self._connection.at_its_thread(partial(self._run_many, sql, parameters))

    async def fetchall(self) -> Sequence[Row]:
        rows, self._rows = self._rows, ()
        return rows

    async def close(self) -> None: ...

    def _run(self, sql: str, parameters: Sequence[object]) -> None:
        cursor = self._connection._conn.cursor()
        cursor.execute(sql, parameters)
        self._take(cursor)

    def _run_many(self, sql: str, parameters: Iterable[Sequence[object]]) -> None:
        cursor = self._connection._conn.cursor()
        cursor.executemany(sql, parameters)
        self._take(cursor)

    def _take(self, cursor: sqlite3.Cursor) -> None:
        self.description = cursor.description
        self._rows = cursor.fetchall()
        # Of a statement that returns rows it is known once they have been fetched.
        self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
        cursor.close()


def connect(database: str, **options: Any) -> Connection:  # noqa: ANN401 - as in sqlite3
    connection = Connection(partial(sqlite3.connect, database, **options), iter_chunk_size=64)
    connection._thread.daemon = True
    return connection
