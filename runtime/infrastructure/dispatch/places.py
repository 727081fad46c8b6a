"""The runs that go on in this process, by the claims of its dispatcher."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

from runtime.domain.repositories.durable import Ticket
from runtime.domain.services.dispatcher import Begin
from runtime.domain.services.liveness import Heartbeat
from runtime.domain.value_objects.identity import Scope


class Places:
    def __init__(self, most: int, heart: Heartbeat, freed: Callable[[], None]) -> None:
        self._most = most
        self._heart = heart
        self._freed = freed
        self._tasks: set[asyncio.Task[None]] = set()
        self.busy: Counter[Scope] = Counter()

    @property
    def room(self) -> int:
        return self._most - len(self._tasks)

    def begin(self, begin: Begin, ticket: Ticket) -> asyncio.Task[None]:
        self._heart.hold()
        self.busy[ticket.scope] += 1
        task = asyncio.create_task(_carry_out(begin, ticket))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, ticket.scope))
        return task

    def _ended(self, owner: Scope, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.busy -= Counter([owner])
        self._heart.release()
        self._freed()


async def _carry_out(begin: Begin, ticket: Ticket) -> None:
    await begin(ticket)
