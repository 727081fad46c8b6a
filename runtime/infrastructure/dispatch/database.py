"""The table of the runs is the queue; processes take from it what they have room for."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from runtime.domain.entities.durable import DurableRun
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.durable import Share, Ticket
from runtime.domain.services.dispatcher import Begin, RunDispatcher
from runtime.domain.services.signals import Signal
from runtime.infrastructure.backoff import Backoff
from runtime.infrastructure.dispatch.ground import Ground
from runtime.infrastructure.dispatch.places import Places

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""Whatever is heard: for runs whose time has come, and signals that were lost."""
LOOK_OFTEN_S = 0.25
"""While other processes can't be heard."""
STOP_WAIT_S = 5.0


class DatabaseDispatcher(RunDispatcher):
    """Claims as many runs as there are places free: when it is told of one, when one has ended
    that others may have waited for, and every second."""

    def __init__(self, ground: Ground, most: int, share: Share) -> None:
        """`most` go on at once in this process."""
        self._queue = ground.queue
        self._heart = ground.heart
        self._worker = ground.worker
        self._share = share
        self._signals = ground.signals
        self._places = Places(most, ground.heart, self._freed)
        self._begin: Begin | None = None
        self._open = False
        self._wake = asyncio.Event()
        self._more = False
        """The last claim took all that there was room for: more may be queued."""
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None
        ground.signals.subscribe(self._heard)

    async def start(self, begin: Begin) -> None:
        self._begin, self._open = begin, True
        self._wake.set()
        self._task = asyncio.create_task(self._work(), name="run-dispatcher")

    async def dispatch(self, run: DurableRun | Ticket) -> None:
        self._wake.set()

    async def stop(self) -> None:
        """A claim that is under way is waited for: what it takes is given back."""
        self._open = False
        self._wake.set()
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=STOP_WAIT_S)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _heard(self, signal: Signal) -> None:
        if signal.kind in ("queue", "any"):
            self._wake.set()

    def _freed(self) -> None:
        shared = self._share.per_user is not None or self._share.per_agent is not None
        if self._more or shared:
            self._wake.set()

    async def _work(self) -> None:
        while self._open:
            told = self._wake.is_set()
            self._wake.clear()
            try:
                await self._fill(told)
                self._backoff.reset()
            except DatabaseUnavailable:
                await self._away()
                continue
            # The loop outlives whatever is wrong with one claim.
            except Exception:
                logger.exception("queued runs could not be claimed")
                await asyncio.sleep(self._backoff.next_s())
                continue
            every_s = LOOK_EVERY_S if self._signals.prompt else LOOK_OFTEN_S
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._wake.wait()

    async def _away(self) -> None:
        if not self._backoff.failures:
            logger.warning("the database is away; queued runs wait for it")
        await asyncio.sleep(self._backoff.next_s())
        self._wake.set()

    async def _fill(self, told: bool) -> None:
        room = self._places.room
        if room <= 0:
            self._more = True
            return
        if not told and not await self._queue.due(datetime.now(UTC), limit=1):
            return
        self._heart.hold()
        try:
            await self._heart.felt()
            tickets = await self._queue.claim(self._worker, room, self._share)
            self._more = len(tickets) >= room
            await self._start(tickets)
        finally:
            self._heart.release()

    async def _start(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            if self._begin and self._open:
                _ = self._places.begin(self._begin, ticket)
            else:
                with suppress(DatabaseUnavailable):
                    await self._queue.give_back(ticket)
