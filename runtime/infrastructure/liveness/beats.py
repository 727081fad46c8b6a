"""`workers`: who lives, by the clock that all of them see."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from time import time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.repositories.durable import WorkerBeats
from runtime.domain.value_objects.ids import WorkerId
from runtime.infrastructure.liveness.processes import has_ended, machine, this_process

BUSY_S = 1.5
_GIVE_UP_S = 2
_BEAT = (
    "INSERT INTO workers (id, beat_at, process) VALUES ({mark}, {clock}, {mark}) "
    "ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at"
)
_NEIGHBOURS = "SELECT id, process FROM workers WHERE beat_at > 0 AND process LIKE {mark}"
_SILENCE = "UPDATE workers SET beat_at = 0 WHERE id = {mark}"
_LEAVE = "DELETE FROM workers WHERE id = {mark}"


def worker_beats(engine: AsyncEngine) -> WorkerBeats:
    if engine.dialect.name == "postgresql":
        return PostgresqlWorkerBeats(engine)
    return SqliteWorkerBeats(engine)


class SqlWorkerBeats(WorkerBeats, ABC):
    """On a connection of its own, which is opened again after every error."""

    mark: str
    clock: str

    def __init__(self) -> None:
        self._connection: Any = None

    @abstractmethod
    def _connect(self) -> Any: ...  # noqa: ANN401 - what the drivers' connections share has no type

    def beat(self, worker: WorkerId) -> None:
        self._execute(_BEAT, worker, *self._times(), this_process())

    def look(self) -> None:
        for id, process in self._execute(_NEIGHBOURS, f"{machine()}_%").fetchall():
            if has_ended(process):
                self._execute(_SILENCE, id)

    def leave(self, worker: WorkerId) -> None:
        self._execute(_LEAVE, worker)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _times(self) -> Sequence[float]:
        return ()

    def _execute(self, sql: str, *values: object) -> Any:  # noqa: ANN401 - as above
        if self._connection is None:
            self._connection = self._connect()
        try:
            return self._connection.execute(sql.format(mark=self.mark, clock=self.clock), values)
        except BaseException:
            self.close()
            raise


class SqliteWorkerBeats(SqlWorkerBeats):
    """All its processes are on one machine, and have one clock."""

    mark = "?"
    clock = "?"

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        self._path = str(engine.url.database)

    def _connect(self) -> Any:  # noqa: ANN401 - as above
        connection = sqlite3.connect(
            self._path, BUSY_S, isolation_level=None, check_same_thread=False
        )
        # A beat that a power cut takes with it is not missed, and so costs no fsync.
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def _times(self) -> Sequence[float]:
        return (time(),)


class PostgresqlWorkerBeats(SqlWorkerBeats):
    mark = "%s"
    clock = "extract(epoch FROM clock_timestamp())::float8"

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        self._positional, named = engine.dialect.create_connect_args(engine.url)
        options = f"{named.get('options', '')} -c statement_timeout={_GIVE_UP_S}s"
        self._named = {
            **named,
            "connect_timeout": _GIVE_UP_S,
            "tcp_user_timeout": _GIVE_UP_S * 1_000,
            # As with SQLite: a lost beat is not missed.
            "options": f"{options} -c synchronous_commit=off",
            "application_name": "agent-runtime-heart",
        }

    def _connect(self) -> Any:  # noqa: ANN401 - as above
        import psycopg

        return psycopg.connect(*self._positional, **self._named, autocommit=True)
