import asyncio
import logging
from contextlib import suppress

from runtime.domain.entities.runs import Run
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.runs import RunLog

logger = logging.getLogger(__name__)

BATCH_EVERY_S = 0.2
RETRY_EVERY_S = 1.0
MOST_WAITING = 20_000
"""While the database is away; beyond it the oldest records are given up, and the log says so."""


class RunRecorder:
    """Writes ended runs in batches: a run never waits for its record, nor pays for its own write.

    A run record may ride the next batch; on `stop` every record is written.
    """

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._waiting: list[Run] = []
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.lost = 0

    @property
    def backlog(self) -> int:
        """Records that no write was begun for, or whose write failed."""
        return len(self._waiting)

    def add(self, run: Run) -> None:
        self._waiting.append(run)
        if len(self._waiting) > MOST_WAITING:
            lost = self._waiting.pop(0)
            self.lost += 1
            logger.error("run record %s given up: the database is away for too long", lost.id)
        self._wake.set()

    async def write(self, run: Run, *, now: bool) -> None:
        """`now`: stored on return, unless the database is away; then it waits for it."""
        self.add(run)
        if not now:
            return
        try:
            await self.flush()
        except DatabaseUnavailable:
            logger.warning("run record %s waits for the database", run.id)
        # Some record of the batch that no database takes; the writer finds out which.
        except Exception:
            logger.exception("a batch of run records is refused")

    async def flush(self) -> None:
        """Every record added so far is stored. Raises DatabaseUnavailable."""
        async with self._writing:
            batch = self._waiting
            if not batch:
                return
            self._waiting = []
            try:
                await self._log.write(batch)
            except BaseException:
                self._waiting = batch + self._waiting
                raise

    def start(self) -> None:
        self._task = asyncio.create_task(self._write_batches(), name="run-recorder")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        try:
            await self.flush()
        except DatabaseUnavailable:
            logger.error("%d run records could not be written", len(self._waiting))

    async def _write_batches(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(BATCH_EVERY_S)
            self._wake.clear()
            try:
                await self.flush()
            except DatabaseUnavailable:
                logger.warning("run records wait for the database")
                self._wake.set()
                await asyncio.sleep(RETRY_EVERY_S)
            # The writer outlives a record that no database takes.
            except Exception:
                logger.exception("a batch of run records is refused; writing them one by one")
                await self._write_singly()

    async def _write_singly(self) -> None:
        """So that one bad record costs only itself."""
        batch, self._waiting = self._waiting, []
        for run in batch:
            try:
                await self._log.write([run])
            except DatabaseUnavailable:
                self._waiting.append(run)
            except Exception:
                self.lost += 1
                logger.exception("run record %s is given up", run.id)
