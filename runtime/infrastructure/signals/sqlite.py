"""A table that the processes of one machine leave notes in."""

import asyncio
import logging
import sqlite3
from contextlib import closing, suppress
from time import monotonic

from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.services.signals import ANY
from runtime.infrastructure.signals.local import LocalSignals
from runtime.infrastructure.signals.payloads import read, sender_of

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.02
LOOK_SELDOM_S = 0.1
"""Where nobody has committed anything for `QUIET_S`."""
QUIET_S = 5.0
AWAY_S = 1.0
_NEWEST = "SELECT coalesce(max(id), 0) FROM run_signals"
_NEWER = "SELECT id, sender, payload FROM run_signals WHERE id > ? ORDER BY id"


class SqliteSignals(LocalSignals):
    """Looks at the file's change counter, which takes microseconds and no lock that a writer
    could hold; only when somebody has committed something, at the table."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        self.prompt = False
        self._sender = sender_of(engine)
        self._path = str(engine.url.database)
        self._task: asyncio.Task[None] | None = None
        self._last = 0

    async def start(self) -> None:
        self._task = asyncio.create_task(self._live(), name="run-signals")
        await asyncio.sleep(0)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.prompt = False

    async def _live(self) -> None:
        warned = False
        while True:
            try:
                with closing(sqlite3.connect(self._path, 0, isolation_level=None)) as connection:
                    await self._watch(connection)
            # It outlives whatever is wrong with the file.
            except sqlite3.Error:
                if not warned:
                    logger.warning("other processes' signals can't be read", exc_info=True)
                warned = True
            self.prompt = False
            await asyncio.sleep(AWAY_S)

    async def _watch(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        (self._last,) = connection.execute(_NEWEST).fetchone()
        self.prompt = True
        self.tell([ANY])
        changed_at = monotonic()
        while True:
            quiet = monotonic() - changed_at > QUIET_S
            await asyncio.sleep(LOOK_SELDOM_S if quiet else LOOK_EVERY_S)
            try:
                (newest,) = connection.execute("PRAGMA data_version").fetchone()
                if newest != version:
                    self._read(connection)
                    version, changed_at = newest, monotonic()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise

    def _read(self, connection: sqlite3.Connection) -> None:
        for id, sender, payload in connection.execute(_NEWER, (self._last,)).fetchall():
            if id > self._last + 1:
                self.tell([ANY])  # What was between has been pruned.
            self._last = id
            if sender != self._sender:
                self.tell(list(read(payload, self._sender)))
