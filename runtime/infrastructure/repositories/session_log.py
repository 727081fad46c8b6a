"""Holds on sessions and turns of them, many in one transaction.

Beside the unit of work and past SQLAlchemy: a turn costs two of these operations, and in a thread
with a connection of its own each is a tenth of what it is there.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.entities.sessions import Session
from runtime.domain.errors import ConversationNotFound, DatabaseUnavailable
from runtime.domain.repositories.sessions import (
    Operation,
    SessionLog,
    SessionName,
    TakeSession,
    WriteTurn,
)
from runtime.domain.value_objects.ids import LineId, ProjectId, SessionId, UserId
from runtime.infrastructure.repositories.base import insertable
from runtime.infrastructure.repositories.sessions import item_rows, session_values, sessions

FRESH_S = 1.0
"""So long a connection is taken for alive after its last use."""
_COLUMNS = (
    "id, project_id, owner_id, line_id, name, metadata, created_at, updated_at, revision, length, "
    "summary, summarised"
)
_BY_NAME = "owner_id = :user AND line_id = :line AND name = :name"
_BY_ID = "id = :id AND (:all OR owner_id = :user)"
_HOLD = (
    "UPDATE sessions SET holder = :holder, held_until = {clock} + :seconds WHERE id = ("
    "SELECT id FROM sessions WHERE project_id = :project AND {which} "
    "AND (holder IS NULL OR holder = :holder OR held_until < {clock}) {lock}) RETURNING " + _COLUMNS
)
_FIND = "SELECT 1 FROM sessions WHERE project_id = :project AND " + _BY_ID
_ADD = (
    f"INSERT INTO sessions ({_COLUMNS}, holder, held_until) VALUES (:id, :project_id, :owner_id, "
    ":line_id, :name, :metadata, :created_at, :updated_at, :revision, :length, :summary, "
    ":summarised, :holder, {clock} + :seconds) ON CONFLICT DO NOTHING"
)
_WRITE = (
    "UPDATE sessions SET holder = NULL, held_until = NULL, revision = :holder, updated_at = :at, "
    "length = :length, summary = :summary, summarised = :summarised "
    "WHERE holder = :holder AND project_id = :project AND " + _BY_ID
)
_WRITTEN = "EXISTS (SELECT 1 FROM sessions WHERE id = :session_id AND revision = :holder)"
"""Asked by what comes behind the turn itself, so that nothing has to be looked at between the two.
It also holds for a turn that is written again, which then changes nothing."""
_CUT = (
    "DELETE FROM session_items WHERE session_id = :session_id AND position >= :cut AND " + _WRITTEN
)
_ADD_ITEM = (
    "INSERT INTO session_items (session_id, position, id, project_id, owner_id, read_by_model, "
    "item) SELECT {row} WHERE " + _WRITTEN + " ON CONFLICT DO NOTHING"
)
_ROW = ":session_id, :position, :id, :project_id, :owner_id, :read_by_model, :item"


_Values = Mapping[str, object]
_Statement = tuple[str, _Values | Sequence[_Values]]
"""With one set of values, or with many, one after the other."""


class _Done(NamedTuple):
    """What a statement came to."""

    row: Sequence[Any] | None
    changed: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An operation as statements, none of which depends on what another gives."""

    statements: Sequence[_Statement]
    result: Callable[[_Done], object]
    """From what the first statement came to."""
    otherwise: "_Prepared | None" = None
    """What is done when the result is None."""
    items: Sequence[_Values] = ()
    """What it adds; written behind the statements, with what others add."""


class _Sqlite:
    clock = "((julianday('now') - 2440587.5) * 86400.0)"
    lock = ""
    begin = "BEGIN IMMEDIATE"
    row = _ROW
    away: tuple[type[Exception], ...] = (sqlite3.OperationalError,)

    def __init__(self, engine: AsyncEngine) -> None:
        self._path = str(engine.url.database)
        self._timeout_s = float(str(engine.url.query.get("timeout", "5")))

    def connect(self) -> Any:  # noqa: ANN401 - what the drivers' connections share has no type
        connection = sqlite3.connect(
            self._path, self._timeout_s, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def run(self, connection: Any, statements: Sequence[_Statement]) -> list[_Done]:  # noqa: ANN401
        return [self._done(self._execute(connection, *each)) for each in statements]

    def _execute(self, connection: Any, sql: str, values: _Values | Sequence[_Values]) -> Any:  # noqa: ANN401
        many = isinstance(values, list)
        return (connection.executemany if many else connection.execute)(sql, values)

    def _done(self, cursor: Any) -> _Done:  # noqa: ANN401
        rows = cursor.fetchall()
        return _Done(rows[0] if rows else None, cursor.rowcount)

    def sql(self, text: str) -> str:
        return text

    def time_out(self, at: datetime) -> object:
        """As SQLAlchemy writes it."""
        return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

    def time_in(self, value: Any) -> datetime:  # noqa: ANN401 - a driver's value
        return datetime.fromisoformat(value).replace(tzinfo=UTC)


class _Postgresql:
    clock = "extract(epoch FROM clock_timestamp())::float8"
    lock = "FOR UPDATE SKIP LOCKED"
    """Replicas that take several sessions at once never wait for each other."""
    begin = "BEGIN"
    # Without a VALUES list PostgreSQL does not see the columns' types.
    row = (
        ":session_id, :position::bigint, :id, :project_id, :owner_id, :read_by_model::boolean, "
        ":item"
    )

    def __init__(self, engine: AsyncEngine) -> None:
        import psycopg

        self._connect = psycopg.connect
        self.away: tuple[type[Exception], ...] = (psycopg.OperationalError, psycopg.InterfaceError)
        self._arguments = engine.dialect.create_connect_args(engine.url)

    def connect(self) -> Any:  # noqa: ANN401 - what the drivers' connections share has no type
        positional, named = self._arguments
        return self._connect(*positional, **named, autocommit=True)

    def run(self, connection: Any, statements: Sequence[_Statement]) -> list[_Done]:  # noqa: ANN401
        """In one round trip."""
        with connection.pipeline():
            cursors = [self._execute(connection, *each) for each in statements]
        return [
            _Done(cursor.fetchone() if cursor.description else None, cursor.rowcount)
            for cursor in cursors
        ]

    def _execute(self, connection: Any, sql: str, values: _Values | Sequence[_Values]) -> Any:  # noqa: ANN401
        if not isinstance(values, list):
            return connection.execute(sql, values)
        cursor = connection.cursor()
        cursor.executemany(sql, values)
        return cursor

    def sql(self, text: str) -> str:
        return re.sub(r"(?<!:):(\w+)", r"%(\1)s", text)

    def time_out(self, at: datetime) -> object:
        return at

    def time_in(self, value: Any) -> datetime:  # noqa: ANN401 - a driver's value
        at: datetime = value.astimezone(UTC)
        return at


class SqlSessionLog(SessionLog):
    def __init__(self, engine: AsyncEngine) -> None:
        postgresql = engine.dialect.name == "postgresql"
        self._driver = _Postgresql(engine) if postgresql else _Sqlite(engine)
        self._thread = ThreadPoolExecutor(1, "session-log")
        self._connection: Any = None
        self._used_at = 0.0
        self._made: dict[tuple[str, ...], str] = {}

    async def apply(self, operations: Sequence[Operation]) -> Sequence[object]:
        # What can't be stored is refused before anything is begun.
        prepared = [self._prepared(each) for each in operations]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._apply, prepared)

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._forget)
        self._thread.shutdown()

    def _prepared(self, operation: Operation) -> _Prepared:
        match operation:
            case TakeSession():
                return self._taking(operation)
            case WriteTurn():
                return self._writing(operation)

    def _taking(self, take: TakeSession) -> _Prepared:
        values: dict[str, object] = {
            "project": take.scope.project_id,
            "user": take.scope.user_id,
            "holder": take.holder,
            "seconds": take.for_s,
        }
        if isinstance(take.key, SessionName):
            values |= {"line": take.key.line_id, "name": take.key.name}
            return _Prepared(
                [(self._sql(_HOLD, which=_BY_NAME), values)], self._held, self._beginning(take)
            )
        id = take.key
        values |= {"id": id, "all": take.scope.administers}
        find = _Prepared(
            [(self._sql(_FIND), values)],
            lambda done: None if done.row else ConversationNotFound(id),
        )
        return _Prepared([(self._sql(_HOLD, which=_BY_ID), values)], self._held, find)

    def _beginning(self, take: TakeSession) -> _Prepared | None:
        session = take.begin
        if session is None:
            return None
        values = dict(insertable(sessions, session_values(session)))
        values |= {
            "metadata": orjson.dumps(values["metadata"]).decode(),
            "created_at": self._driver.time_out(session.created_at),
            "updated_at": self._driver.time_out(session.updated_at),
            "holder": take.holder,
            "seconds": take.for_s,
        }
        return _Prepared(
            [(self._sql(_ADD), values)],
            lambda done: session if done.changed == 1 else None,
        )

    def _writing(self, write: WriteTurn) -> _Prepared:
        session, addition = write.session, write.addition
        start = session.length if addition.cut is None else addition.cut
        told = addition.summary is not None
        values = {
            "project": write.scope.project_id,
            "user": write.scope.user_id,
            "all": write.scope.administers,
            "id": session.id,
            "holder": write.holder,
            "at": self._driver.time_out(write.at),
            "length": start + len(addition.items),
            "summary": addition.summary if told else session.summary,
            "summarised": addition.summarised if told else session.summarised,
        }
        statements: list[_Statement] = [(self._sql(_WRITE), values)]
        if addition.cut is not None:
            cut = {"session_id": session.id, "cut": addition.cut, "holder": write.holder}
            statements.append((self._sql(_CUT), cut))
        items = [
            {**row, "holder": write.holder} for row in item_rows(session, start, addition.items)
        ]
        return _Prepared(statements, lambda done: done.changed == 1, items=items)

    def _apply(self, operations: Sequence[_Prepared]) -> Sequence[object]:
        try:
            self._ensure_alive()
            results = self._transaction(operations)
            rest = [
                (at, each.otherwise)
                for at, each in enumerate(operations)
                if each.otherwise and results[at] is None
            ]
            if rest:
                second = self._transaction([each for _, each in rest])
                for (at, _), result in zip(rest, second, strict=True):
                    results[at] = result
            return results
        except self._driver.away as error:
            self._forget()
            raise DatabaseUnavailable from error
        except BaseException:
            self._forget()
            raise

    def _transaction(self, operations: Sequence[_Prepared]) -> list[object]:
        statements = [each for operation in operations for each in operation.statements]
        items = [item for operation in operations for item in operation.items]
        if items:
            statements.append((self._sql(_ADD_ITEM, row=self._driver.row), items))
        begin: _Statement = (self._driver.begin, {})
        done = self._driver.run(self._connection, [begin, *statements, ("COMMIT", {})])
        results, at = [], 1
        for operation in operations:
            results.append(operation.result(done[at]))
            at += len(operation.statements)
        return results

    def _ensure_alive(self) -> None:
        """What was not used for a while may have died meanwhile: a restart of the database should
        not be noticed afterwards."""
        since, self._used_at = self._used_at, monotonic()
        if self._connection is not None and self._used_at - since > FRESH_S:
            try:
                self._connection.execute("SELECT 1")
            except self._driver.away:
                self._forget()
        if self._connection is None:
            self._connection = self._driver.connect()

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _sql(self, template: str, **parts: str) -> str:
        key = (template, *parts.values())
        made = self._made.get(key)
        if made is None:
            driver = self._driver
            text = template.format(clock=driver.clock, lock=driver.lock, **parts)
            made = self._made[key] = driver.sql(text)
        return made

    def _held(self, done: _Done) -> Session | None:
        return None if done.row is None else self._session(done.row)

    def _session(self, row: Sequence[Any]) -> Session:
        found = iter(row)
        return Session(
            id=SessionId(next(found)),
            project_id=ProjectId(next(found)),
            owner_id=UserId(next(found)),
            line_id=(line := next(found)) and LineId(line),
            name=next(found),
            metadata=orjson.loads(next(found)),
            created_at=self._driver.time_in(next(found)),
            updated_at=self._driver.time_in(next(found)),
            revision=next(found),
            length=next(found),
            summary=next(found),
            summarised=next(found),
        )
