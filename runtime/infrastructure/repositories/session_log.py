"""Holds on sessions and turns of them, many in one transaction.

Beside the unit of work and past SQLAlchemy: a turn costs two of these operations, and in a thread
with a connection of its own each is a tenth of what it is there.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Protocol

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

_COLUMNS = (
    "id, project_id, owner_id, line_id, name, metadata, created_at, updated_at, revision, length, "
    "summary, summarised"
)
_BY_NAME = "owner_id = :user AND line_id = :line AND name = :name"
_BY_ID = "id = :id AND (:all OR owner_id = :user)"
_HOLD = (
    "UPDATE sessions SET holder = :holder, held_until = {clock} + :seconds WHERE id = ("
    "SELECT id FROM sessions WHERE project_id = :project AND {which} "
    "AND (holder IS NULL OR held_until < {clock}) {lock}) RETURNING " + _COLUMNS
)
_FIND = "SELECT 1 FROM sessions WHERE project_id = :project AND {which}"
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
_CUT = "DELETE FROM session_items WHERE session_id = :id AND position >= :cut"
_ADD_ITEM = (
    "INSERT INTO session_items (session_id, position, id, project_id, owner_id, read_by_model, "
    "item) VALUES (:session_id, :position, :id, :project_id, :owner_id, :read_by_model, :item)"
)


class _Connection(Protocol):
    """What both drivers have in common."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any: ...  # noqa: ANN401

    def close(self) -> None: ...


class _Sqlite:
    clock = "((julianday('now') - 2440587.5) * 86400.0)"
    lock = ""
    begin = "BEGIN IMMEDIATE"
    error: type[Exception] = sqlite3.Error

    def __init__(self, engine: AsyncEngine) -> None:
        self._path = str(engine.url.database)
        self._timeout_s = float(str(engine.url.query.get("timeout", "5")))

    def connect(self) -> _Connection:
        connection = sqlite3.connect(
            self._path, self._timeout_s, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

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

    def __init__(self, engine: AsyncEngine) -> None:
        import psycopg

        self._connect = psycopg.connect
        self.error: type[Exception] = psycopg.Error
        self._arguments = engine.dialect.create_connect_args(engine.url)

    def connect(self) -> _Connection:
        positional, named = self._arguments
        return self._connect(*positional, **named, autocommit=True)

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
        self._connection: _Connection | None = None
        self._made: dict[tuple[str, str], str] = {}

    async def apply(self, operations: Sequence[Operation]) -> Sequence[object]:
        # What can't be stored is refused before anything is begun.
        prepared = [self._prepared(each) for each in operations]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._apply, prepared)

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._forget)
        self._thread.shutdown()

    def _prepared(self, operation: Operation) -> Callable[[_Connection], object]:
        match operation:
            case TakeSession():
                return self._taking(operation)
            case WriteTurn():
                return self._writing(operation)

    def _taking(self, take: TakeSession) -> Callable[[_Connection], object]:
        named = isinstance(take.key, SessionName)
        which = _BY_NAME if named else _BY_ID
        values: dict[str, object] = {
            "project": take.scope.project_id,
            "user": take.scope.user_id,
            "holder": take.holder,
            "seconds": take.for_s,
        }
        if isinstance(take.key, SessionName):
            values |= {"line": take.key.line_id, "name": take.key.name}
        else:
            values |= {"id": take.key, "all": take.scope.administers}
        begin = take.begin
        added = self._session_values(begin, take) if begin else {}

        def work(connection: _Connection) -> object:
            row = connection.execute(self._sql(_HOLD, which), values).fetchone()
            if row is not None:
                return self._session(row)
            if connection.execute(self._sql(_FIND, which), values).fetchone():
                return None
            if begin is None:
                return ConversationNotFound(take.key)
            return begin if connection.execute(self._sql(_ADD), added).rowcount == 1 else None

        return work

    def _writing(self, write: WriteTurn) -> Callable[[_Connection], object]:
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
        rows = list(item_rows(session, start, addition.items))

        def work(connection: _Connection) -> object:
            if connection.execute(self._sql(_WRITE), values).rowcount != 1:
                return False
            if addition.cut is not None:
                cut = {"id": session.id, "cut": addition.cut}
                connection.execute(self._sql(_CUT), cut)
            for row in rows:
                connection.execute(self._sql(_ADD_ITEM), row)
            return True

        return work

    def _apply(self, operations: Sequence[Callable[[_Connection], object]]) -> Sequence[object]:
        try:
            connection = self._begun()
            results = [operation(connection) for operation in operations]
            connection.execute("COMMIT")
            return results
        except self._driver.error as error:
            self._forget()
            raise DatabaseUnavailable from error
        except BaseException:
            self._forget()
            raise

    def _begun(self) -> _Connection:
        """In a transaction. A connection that has died since the last one is made anew."""
        if self._connection is not None:
            try:
                self._connection.execute(self._driver.begin)
                return self._connection
            except self._driver.error:
                self._forget()
        self._connection = self._driver.connect()
        self._connection.execute(self._driver.begin)
        return self._connection

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _sql(self, template: str, which: str = "") -> str:
        made = self._made.get((template, which))
        if made is None:
            text = template.format(clock=self._driver.clock, lock=self._driver.lock, which=which)
            made = self._made[template, which] = self._driver.sql(text)
        return made

    def _session_values(self, session: Session, take: TakeSession) -> dict[str, object]:
        values = dict(insertable(sessions, session_values(session)))
        return {
            **values,
            "metadata": orjson.dumps(values["metadata"]).decode(),
            "created_at": self._driver.time_out(session.created_at),
            "updated_at": self._driver.time_out(session.updated_at),
            "holder": take.holder,
            "seconds": take.for_s,
        }

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
