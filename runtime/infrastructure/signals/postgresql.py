"""LISTEN and NOTIFY."""

import asyncio
import logging
from contextlib import suppress

from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.services.signals import ANY
from runtime.infrastructure.backoff import Backoff
from runtime.infrastructure.signals.local import LocalSignals
from runtime.infrastructure.signals.payloads import CHANNEL, read, sender_of

logger = logging.getLogger(__name__)

START_WAIT_S = 2.0
CHECK_EVERY_S = 15.0
"""A connection that died without a word is noticed so late at the most."""


class PostgresqlSignals(LocalSignals):
    """On a connection of its own, which is made again for as long as it takes."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        self.prompt = False
        self._sender = sender_of(engine)
        self._positional, named = engine.dialect.create_connect_args(engine.url)
        self._named = {**named, "application_name": "agent-runtime-signals"}
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

    async def start(self) -> None:
        """Returns once it listens, or it is known that it can't for now."""
        self._task = asyncio.create_task(self._live(), name="run-signals")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), START_WAIT_S)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.prompt = False

    async def _live(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._listen(backoff)
            # It outlives whatever the connection dies of.
            except Exception:
                if not backoff.failures:
                    logger.warning(
                        "other processes' signals can't be heard; it is looked for news instead",
                        exc_info=True,
                    )
            self.prompt = False
            self._tried.set()
            await asyncio.sleep(backoff.next_s())

    async def _listen(self, backoff: Backoff) -> None:
        import psycopg

        connection = await psycopg.AsyncConnection.connect(
            *self._positional, **self._named, autocommit=True
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            self.prompt = True
            self._tried.set()
            if backoff.failures:
                logger.info("other processes' signals are heard again")
            backoff.reset()
            self.tell([ANY])
            while True:
                async for each in connection.notifies(timeout=CHECK_EVERY_S):
                    self.tell(list(read(each.payload, self._sender)))
                await connection.execute(b"SELECT 1")
