"""Processes that have a queue in common, for the suite of every dispatcher."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from runtime.domain.entities.durable import DurableRun, RunOrder
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.durable import RunQueue, Ticket
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import ChatRole, Message
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import AgentId, LineId, RunId, UserId, new_run_id
from tests.contracts.samples import ANN, PROJECT

PATIENCE_S = 10.0


def an_order(
    owner: UserId = ANN, *, priority: int = 0, due_in_s: float = 0, line: str = "line_1"
) -> DurableRun:
    now = datetime.now(UTC)
    return DurableRun(
        id=new_run_id(),
        project_id=PROJECT,
        owner_id=owner,
        agent_id=AgentId("agent_1"),
        line_id=LineId(line),
        model="support",
        order=RunOrder(caller=Principal(owner, PROJECT), messages=[Message(ChatRole.USER, "hi")]),
        priority=priority,
        created_at=now,
        not_before=now + timedelta(seconds=due_in_s) if due_in_s else None,
    )


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not what():  # noqa: ASYNC110 - it is no event for them
            await asyncio.sleep(0.005)


async def comes(what: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await what():  # noqa: ASYNC110 - what comes is seen in the database
            await asyncio.sleep(0.02)


class Site:
    """One queue, and what its processes have begun, in that order."""

    def __init__(self, uow: UnitOfWorkFactory) -> None:
        self.uow = uow
        self.begun: list[tuple[Process, Ticket]] = []
        self.begun_at: dict[RunId, datetime] = {}
        self.going_on: set[RunId] = set()
        self.most_at_once = 0

    @property
    def ids(self) -> list[RunId]:
        return [ticket.id for _, ticket in self.begun]

    async def add(self, *runs: DurableRun) -> None:
        for run in runs:
            async with self.uow(run.scope) as work:
                await work.durable.add(run)
                await work.commit()

    async def begins(self, runs: int) -> None:
        await until(lambda: len(self.begun) >= runs)

    async def ended(self, ticket: Ticket) -> None:
        """Sooner or later: the database may be busy, or away."""
        with suppress(DatabaseUnavailable):
            return await self._end(ticket)
        await asyncio.sleep(0.05)
        await self.ended(ticket)

    async def _end(self, ticket: Ticket) -> None:
        async with self.uow(ticket.scope) as work:
            run = await work.durable.get(ticket.id)
            ended = run.ended(RunStatus.COMPLETED, datetime.now(UTC), None)
            await work.durable.finish(ended, attempt=ticket.attempt)
            await work.commit()


class Process:
    """Runs begin here, and go on until they are let go."""

    def __init__(self, site: Site, queue: RunQueue, dispatcher: RunDispatcher) -> None:
        self.dispatcher = dispatcher
        self._site = site
        self._queue = queue
        self._gates: dict[RunId, asyncio.Event] = {}
        self.going_on = 0
        self._free = False

    async def start(self) -> None:
        await self.dispatcher.start(self._begin)

    async def order(self, *runs: DurableRun) -> None:
        for run in runs:
            await self._site.add(run)
            await self.dispatcher.dispatch(run)

    def let_go(self, *ids: RunId) -> None:
        """Without ids: everything, from now on."""
        self._free = self._free or not ids
        for id in ids or list(self._gates):
            self._gates[id].set()

    async def reconcile(self) -> None:
        """As the reconciler does, only more often."""
        while True:
            with suppress(DatabaseUnavailable):
                for ticket in await self._queue.due(datetime.now(UTC), limit=100):
                    await self.dispatcher.dispatch(ticket)
            await asyncio.sleep(0.1)

    async def _begin(self, ticket: Ticket) -> None:
        site, gate = self._site, self._gates.setdefault(ticket.id, asyncio.Event())
        site.begun.append((self, ticket))
        site.begun_at[ticket.id] = datetime.now(UTC)
        site.going_on.add(ticket.id)
        self.going_on += 1
        site.most_at_once = max(site.most_at_once, len(site.going_on))
        if not self._free:
            await gate.wait()
        site.going_on.remove(ticket.id)
        await site.ended(ticket)
        self.going_on -= 1
