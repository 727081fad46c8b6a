"""One attempt of a durable run: writes its events as they come, and how it ended or paused."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from time import monotonic

from runtime.application.services.durable.endings import Endings
from runtime.application.services.durable.folding import merged
from runtime.application.services.durable.logs import RunLogs
from runtime.application.services.durable.part import AlreadyKept, DurablePart, Paused
from runtime.application.services.execution import Execution
from runtime.application.services.keepers import RunKeeper
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.responses import end_of
from runtime.domain.entities.runs import Run
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.events.runs import RunEvent
from runtime.domain.repositories.checkpoints import Progress
from runtime.domain.repositories.durable import AttemptEntry
from runtime.domain.services.durability import AttemptLost, Durability
from runtime.domain.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

AHEAD = 512
"""Events that may be happening before they are in the log."""
RETRY_S = 0.25
MOST_RETRY_S = 2.0
LATER_S = 1.0
"""Until an attempt that the database failed is followed by another."""


class Attempt(RunKeeper, DurablePart):
    def __init__(
        self,
        logs: RunLogs,
        endings: Endings,
        run: DurableRun,
        before: Sequence[RunEvent],
        durability: Durability,
    ) -> None:
        self.id = run.id
        self.run = run
        self.attempt = durability.attempt
        self.durability = durability
        self.before = before
        self.logged: list[RunEvent] = list(before)
        self.paused: Paused | None = None
        self.broken = False
        """What it made can't be stored, however often one tries."""
        self._logs = logs
        self._endings = endings
        self._execution: Execution | None = None
        self._waiting: list[RunEvent] = []
        self._tried: tuple[Sequence[RunEvent], int] = ((), 0)
        """What may have been written, and how many of those waiting it says."""
        self._happened = asyncio.Event()
        self._room = asyncio.Event()
        self._writing = asyncio.Lock()
        self._over = False
        durability.flush = self.flush

    def lost(self) -> None:
        """Somebody else has it now, or has ended it."""
        self._over = True
        self._room.set()
        self.cut()

    def stop(self) -> None:
        """At the next boundary of a step."""
        self.durability.stop()

    def cut(self) -> None:
        """Now: another attempt makes the step again."""
        if self._execution:
            self._execution.cancel()

    async def follow(self, execution: Execution) -> None:
        """Write what happens, until the attempt is over."""
        self._execution = execution
        if self._over:
            self.cut()
        self._logs.took(self.id, self)
        writing = asyncio.create_task(self._write_along(), name=f"log of {self.id}")
        try:
            async for _ in execution.batches():
                pass
        except BaseException:
            await execution.aclose()
            raise
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            self._logs.left(self.id, self)

    async def put(self, event: RunEvent) -> None:
        while len(self._waiting) >= AHEAD and not (self._over or self.broken):
            self._room.clear()
            await self._room.wait()
        if self._over:
            raise AttemptLost
        self._waiting.append(event)
        self._happened.set()

    async def flush(self, progress: Callable[[], Progress] | None = None) -> None:
        await self.patiently(partial(self._write, progress))
        if self._over:
            raise AttemptLost

    async def keep(self, work: UnitOfWork, run: Run, events: Sequence[RunEvent]) -> None:
        """With the keepers of its session, while it stands `still`; `patiently` lets it be tried
        again."""
        if self._over:
            raise AttemptLost
        rest = [*self._unwritten(), end_of(run)]
        whole = _whole(self.run, run)
        with self._breaking():
            await self._endings.write(work, self.run, whole, len(self.logged), rest, events)

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        async with self._writing:
            yield

    async def pause(self, pause: Paused) -> Paused:
        self.paused = pause = Paused("lost") if self._over else pause
        if pause.why != "lost":
            try:
                await self.patiently(lambda: self._stand_still(pause))
            except AttemptLost:
                self.paused = Paused("lost")
        return self.paused

    async def postpone(self, wait_s: float) -> Paused:
        """Before it has begun: there is no room for it yet."""
        later = Paused("later")
        try:
            await self.patiently(lambda: self._postponed(later, wait_s))
        except AttemptLost:
            return Paused("lost")
        return later

    async def release(self) -> None:
        """Whoever waits for the end reads it off the log."""

    async def patiently(self, write: Callable[[], Awaitable[None]]) -> None:
        wait_s = RETRY_S
        while True:
            try:
                await write()
                return
            except AlreadyKept:
                return
            except DatabaseUnavailable:
                if self._over:
                    raise AttemptLost from None
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, MOST_RETRY_S)

    async def _postponed(self, pause: Paused, wait_s: float) -> None:
        later = timedelta(seconds=wait_s)
        await self._endings.pause(self.run, self.attempt, len(self.logged), (), pause, later)

    async def _stand_still(self, pause: Paused) -> None:
        async with self._writing:
            rest = self._unwritten()
            later = timedelta(seconds=LATER_S) if pause.why == "later" else None
            await self._endings.pause(self.run, self.attempt, len(self.logged), rest, pause, later)
            self._waiting.clear()
            self._tried = ((), 0)

    async def _write_along(self) -> None:
        """At once after a silence, else what has come together since the last time."""
        written_at = monotonic()
        while not self._over:
            await self._happened.wait()
            await asyncio.sleep(max(0.0, written_at + self._logs.pace.batch_s - monotonic()))
            written_at = monotonic()
            try:
                await self.patiently(self._write)
            except AttemptLost:
                return
            # It is said once, where the attempt's end is known: see `broken`.
            except Exception:
                logger.exception("the log of run %s can't be written", self.id)
                self.cut()
                return

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        try:
            yield
        except (AttemptLost, AlreadyKept, DatabaseUnavailable):
            raise
        except Exception:
            self.broken = True
            self._room.set()
            raise

    async def _write(self, progress: Callable[[], Progress] | None = None) -> None:
        """Persist, then publish."""
        async with self._writing:
            self._happened.clear()
            if self._over or not (self._waiting or progress):
                return
            together, taken = self._unwritten(), len(self._waiting)
            entry = AttemptEntry(
                self.id,
                self.run.scope,
                self.attempt,
                len(self.logged),
                together,
                progress() if progress else None,
            )
            with self._breaking():
                held = await self._logs.append(entry)
            if not held:
                self.lost()
                return
            self.logged += together
            del self._waiting[:taken]
            self._tried = ((), 0)
            self._room.set()
        self._logs.changed(self.id)

    def _unwritten(self) -> Sequence[RunEvent]:
        """What was tried before stays as it was, whatever has come since: where only the answer
        was lost, it is in the log already under the same numbers."""
        tried, taken = self._tried
        events = [*tried, *merged(self._waiting[taken:])]
        self._tried = events, len(self._waiting)
        return events


def _whole(run: DurableRun, last: Run) -> Run:
    """The record of all its attempts, made of the last one's."""
    if run.started_at is None or run.attempt == 1:
        return last
    duration_ms = (last.ended_at - run.started_at).total_seconds() * 1_000
    return replace(last, started_at=run.started_at, duration_ms=duration_ms)
