"""A run goes on where it was ordered."""

import asyncio
import heapq
import logging
from contextlib import suppress
from datetime import datetime

from runtime.domain.entities.durable import DurableRun
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.durable import Share, Ticket
from runtime.domain.services.dispatcher import Begin, RunDispatcher
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId, made_at
from runtime.infrastructure.backoff import Backoff
from runtime.infrastructure.dispatch.ground import Ground
from runtime.infrastructure.dispatch.places import Places

logger = logging.getLogger(__name__)

_Waiting = tuple[int, datetime, RunId]
"""By priority, then age: the smallest goes first of its owner's."""


class InlineDispatcher(RunDispatcher):
    """For one process. What it is given it begins, as soon as there is a place; it looks for
    nothing by itself. What can't be claimed now - its time has not come, its owner has their
    share - is brought again by the reconciler."""

    def __init__(self, ground: Ground, most: int, share: Share) -> None:
        """`most` go on at once in this process."""
        self._queue = ground.queue
        self._heart = ground.heart
        self._worker = ground.worker
        self._share = share
        self._places = Places(most, ground.heart, self._look)
        self._waiting: dict[Scope, list[_Waiting]] = {}
        self._known: set[RunId] = set()
        self._begin: Begin | None = None
        self._open = False
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None

    async def start(self, begin: Begin) -> None:
        self._begin, self._open = begin, True
        self._wake.set()
        self._task = asyncio.create_task(self._work(), name="run-dispatcher")

    async def dispatch(self, run: DurableRun | Ticket) -> None:
        if self._begin is None or run.id in self._known:
            return
        priority = run.priority if isinstance(run, DurableRun) else 0
        self._known.add(run.id)
        self._put(run.scope, (-priority, made_at(run.id), run.id))
        self._look()

    async def stop(self) -> None:
        self._open = False
        self._wake.set()
        task, self._task = self._task, None
        if task is not None:
            await task

    def _look(self) -> None:
        self._wake.set()

    async def _work(self) -> None:
        while self._open:
            self._wake.clear()
            while self._open and self._waiting and self._places.room > 0:
                await self._next()
            if self._open:
                await self._wake.wait()

    async def _next(self) -> None:
        """Owners take turns, beginning with whoever has the fewest going on."""
        busy, waiting = self._places.busy, self._waiting
        owner = min(waiting, key=lambda each: (busy[each], waiting[each][0][1]))
        first = self._pop(owner)
        id = first[-1]
        try:
            ticket = await self._claimed(id)
            self._backoff.reset()
        except DatabaseUnavailable:
            if not self._backoff.failures:
                logger.warning("the database is away; queued runs wait for it")
            self._put(owner, first)
            await asyncio.sleep(self._backoff.next_s())
            return
        # The loop outlives whatever is wrong with one run.
        except Exception:
            logger.exception("run %s could not be claimed", id)
            ticket = None
        self._known.discard(id)
        if ticket is not None:
            await self._start(ticket)

    def _put(self, owner: Scope, waiting: _Waiting) -> None:
        heapq.heappush(self._waiting.setdefault(owner, []), waiting)

    def _pop(self, owner: Scope) -> _Waiting:
        waiting = self._waiting[owner]
        first = heapq.heappop(waiting)
        if not waiting:
            del self._waiting[owner]
        return first

    async def _claimed(self, id: RunId) -> Ticket | None:
        self._heart.hold()
        try:
            await self._heart.felt()
            return await self._queue.claim_one(self._worker, id, self._share)
        finally:
            self._heart.release()

    async def _start(self, ticket: Ticket) -> None:
        if self._begin and self._open:
            _ = self._places.begin(self._begin, ticket)
        else:
            with suppress(DatabaseUnavailable):
                await self._queue.give_back(ticket)
