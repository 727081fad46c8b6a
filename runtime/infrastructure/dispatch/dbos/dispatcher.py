"""DBOS Transact says when a process may begin a run; the table of the runs, which one."""

import asyncio
import logging
import queue
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy import URL

from runtime.domain.entities.durable import DurableRun
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.durable import Share, Ticket
from runtime.domain.services.dispatcher import Begin, RunDispatcher
from runtime.infrastructure.backoff import Backoff
from runtime.infrastructure.dispatch.dbos.system import System
from runtime.infrastructure.dispatch.ground import Ground
from runtime.infrastructure.dispatch.places import Places

logger = logging.getLogger(__name__)

LOST_S = 60
"""What DBOS had given to a process that was killed is brought again after so long: it does not
notice by itself that the process is gone."""
PRUNE_EVERY_S = 600.0
STOP_WAIT_S = 10.0

_Order = tuple[str, float]
"""A key, and when it is due, by `time.time()`."""


class DbosDispatcher(RunDispatcher):
    """A workflow on DBOS's queue is the permission to begin one run, whichever is next: so owners
    take turns, and shares and priorities are kept as the table keeps them, for any dispatcher.
    Of DBOS come the places in each process, the delay and that a run is queued once.

    Its rows are hints. A run is claimed before it begins, and if its process is killed it is
    queued again by the others; what DBOS still has for it finds nothing to begin.
    """

    def __init__(self, ground: Ground, url: URL, most: int, share: Share) -> None:
        self._queue = ground.queue
        self._heart = ground.heart
        self._worker = ground.worker
        self._share = share
        self._places = Places(most, ground.heart, lambda: None)
        self._system = System(url, ground.worker, most, self._taken)
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._known: set[str] = set()
        self._begin: Begin | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._bodies = 0

    async def start(self, begin: Begin) -> None:
        """Raises DatabaseUnavailable."""
        self._begin, self._loop = begin, asyncio.get_running_loop()
        await asyncio.to_thread(self._system.launch)
        threading.Thread(target=self._bring, name="dbos-orders", daemon=True).start()

    async def dispatch(self, run: DurableRun | Ticket) -> None:
        """DBOS blocks for as long as its database is away, so a thread brings it there. A process
        that begins no runs leaves that to the reconcilers of those that do."""
        if self._begin is None:
            return
        not_before = run.not_before if isinstance(run, DurableRun) else None
        due = not_before.timestamp() if not_before else 0.0
        key = f"{run.id}:{run.attempt + 1}:{int(max(due, time.time()) / LOST_S)}"
        if key not in self._known:
            self._known.add(key)
            self._orders.put((key, due))

    async def stop(self) -> None:
        self._closing.set()
        self._orders.put(None)
        stopping = asyncio.to_thread(self._system.destroy, 2 if self._bodies else 0)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping, STOP_WAIT_S)

    def _bring(self) -> None:
        """In a thread of its own."""
        prune_at = time.monotonic() + PRUNE_EVERY_S
        while not self._closing.is_set():
            try:
                order = self._orders.get(timeout=PRUNE_EVERY_S)
                if order is None:
                    return
                key, due = order
                self._known.discard(key)
                self._system.enqueue(key, due - time.time())
            except queue.Empty:
                pass
            # The reconciler brings it again.
            except Exception:
                logger.exception("DBOS could not take a run")
            if time.monotonic() > prune_at:
                prune_at = time.monotonic() + PRUNE_EVERY_S
                self._prune()

    def _prune(self) -> None:
        try:
            self._system.prune()
        # The next time, perhaps.
        except Exception:
            logger.exception("what DBOS has brought could not be forgotten")

    def _taken(self) -> None:
        """In one of DBOS's threads, which stands for a place in this process."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._place(), self._loop).result()

    async def _place(self) -> None:
        self._bodies += 1
        try:
            ticket = await self._claimed()
            if ticket is not None and self._begin is not None:
                run = self._places.begin(self._begin, ticket)
                closing = asyncio.ensure_future(self._closing.wait())
                await asyncio.wait([run, closing], return_when=asyncio.FIRST_COMPLETED)
                closing.cancel()
        finally:
            self._bodies -= 1

    async def _claimed(self) -> Ticket | None:
        backoff = Backoff()
        while not self._closing.is_set():
            try:
                return await self._claim()
            except DatabaseUnavailable:
                if not backoff.failures:
                    logger.warning("the database is away; queued runs wait for it")
                await asyncio.sleep(backoff.next_s())
        return None

    async def _claim(self) -> Ticket | None:
        if not await self._queue.due(datetime.now(UTC), limit=1):
            return None
        self._heart.hold()
        try:
            await self._heart.felt()
            tickets = await self._queue.claim(self._worker, 1, self._share)
        finally:
            self._heart.release()
        if not tickets or not self._closing.is_set():
            return tickets[0] if tickets else None
        await self._queue.give_back(tickets[0])
        return None
