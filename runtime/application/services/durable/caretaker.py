"""Looks after all durable runs, on every process: none stands still for want of somebody."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic

from runtime.application.services.durable.endings import Endings
from runtime.application.services.durable.logs import RunLogs
from runtime.application.services.durable.worker import Worker
from runtime.domain.errors import DatabaseUnavailable, DeadlineExceeded
from runtime.domain.events.runs import RunFailed
from runtime.domain.repositories.durable import RunQueue, Ticket
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.domain.services.liveness import Heartbeat
from runtime.domain.services.signals import RunSignals, Signal
from runtime.domain.unit_of_work import UnitOfWorkFactory

logger = logging.getLogger(__name__)

AT_ONCE = 100
GONE_S = 3_600.0
"""After so long nothing reminds of a worker that is gone."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often what is looked at, in seconds."""

    turn_s: float = 0.25
    own_s: float = 0.25
    """Whether this process still has the runs that it carries out."""
    own_prompt_s: float = 2.0
    """The same, where other processes are heard."""
    abandoned_s: float = 1.0
    reconcile_s: float = 2.0
    forget_s: float = 300.0


@dataclass
class Caretaker:
    uow: UnitOfWorkFactory
    queue: RunQueue
    worker: Worker
    logs: RunLogs
    endings: Endings
    dispatcher: RunDispatcher
    heart: Heartbeat
    signals: RunSignals
    now: Callable[[], datetime]
    rounds: Rounds = field(default_factory=Rounds)
    due: int = 0
    """Queued and due at the last look, up to AT_ONCE."""
    taken_over: int = 0
    _task: asyncio.Task[None] | None = None
    _last: dict[str, float] = field(default_factory=dict)
    _away: bool = False
    _strays: set[Ticket] = field(default_factory=set)

    def start(self) -> None:
        self.signals.subscribe(self._heard)
        self._task = asyncio.create_task(self._tend(), name="caretaker")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def look_at_own(self) -> None:
        """Whatever was ended or taken elsewhere stops here."""
        owned = dict(self.worker.active)
        attempts = {id: own.attempt for id, own in owned.items()}
        for id in attempts.keys() - await self.queue.going_on(attempts):
            owned[id].lost()

    async def take_back_abandoned(self) -> None:
        """What processes had that are gone is queued again."""
        for ticket in await self.queue.abandoned(self.heart.silence_s, limit=AT_ONCE):
            if ticket.id in self.worker.active:
                continue
            if await self.queue.give_back(ticket):
                self.taken_over += 1
                logger.warning("run %s is begun again: its process is gone", ticket.id)
                await self.dispatcher.dispatch(ticket)

    async def reconcile(self) -> None:
        """What is queued, held or late, as the table says, against what goes on."""
        now = self.now()
        due = await self.queue.due(now, limit=AT_ONCE)
        self.due = len(due)
        for ticket in due:
            await self.dispatcher.dispatch(ticket)
        await self._give_back_strays()
        for ticket in await self.queue.expired(now, limit=AT_ONCE):
            await self._expire(ticket)

    async def _give_back_strays(self) -> None:
        """What this process has by the table and does not run: the answer to a claim was lost.
        Seen twice, since a claim may be on its way to the one who made it."""
        held = await self.queue.held(self.worker.id)
        strays = {ticket for ticket in held if not self.worker.has(ticket)}
        for ticket in strays & self._strays:
            if await self.queue.give_back(ticket):
                await self.dispatcher.dispatch(ticket)
        self._strays = strays

    async def _expire(self, ticket: Ticket) -> None:
        try:
            async with self.uow(ticket.scope) as work:
                run = await work.durable.get(ticket.id)
            if run.deadline:
                await self.endings.close(run, RunFailed(DeadlineExceeded(run.deadline)))
        except DatabaseUnavailable:
            raise
        # One that can't be ended must not keep the others from it.
        except Exception:
            logger.exception("run %s is past its deadline and can't be ended", ticket.id)

    async def _tend(self) -> None:
        while True:
            own_s = self.rounds.own_prompt_s if self.signals.prompt else self.rounds.own_s
            for every_s, look in (
                (own_s, self.look_at_own),
                (self.rounds.abandoned_s, self.take_back_abandoned),
                (self.rounds.reconcile_s, self.reconcile),
                (self.rounds.forget_s, self._forget),
            ):
                await self._in_turn(look, every_s)
            await asyncio.sleep(self.rounds.turn_s)

    async def _in_turn(self, look: Callable[[], Awaitable[None]], every_s: float) -> None:
        name = look.__name__
        if monotonic() - self._last.get(name, 0.0) < every_s:
            return
        self._last[name] = monotonic()
        try:
            await look()
            self._away = False
        except DatabaseUnavailable:
            if not self._away:
                logger.warning("durable runs can't be looked after: the database is away")
            self._away = True
        # It has to outlive what one run brings about.
        except Exception:
            logger.exception("looking after the durable runs failed")

    async def _forget(self) -> None:
        await self.queue.forget_workers(GONE_S)

    def _heard(self, signal: Signal) -> None:
        match signal.kind:
            case "log":
                self.logs.changed(signal.run)
            case "control":
                self.worker.lost(signal.run)
                self.logs.changed(signal.run)
            case "any":
                self.logs.changed_all()
                self._last.pop("look_at_own", None)
            case "queue":
                pass
