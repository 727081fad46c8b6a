"""The runs that go on in this process, by the claims of its dispatcher."""

import asyncio
from collections.abc import Callable

from runtime.domain.repositories.durable import Ticket
from runtime.domain.services.dispatcher import Begin
from runtime.domain.services.liveness import Heartbeat


class Places:
    def __init__(self, most: int, heart: Heartbeat, freed: Callable[[], None]) -> None:
        self._most = most
        self._heart = heart
        self._freed = freed
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def room(self) -> int:
        return self._most - len(self._tasks)

    def begin(self, begin: Begin, ticket: Ticket) -> None:
        self._heart.hold()
        task = asyncio.ensure_future(begin(ticket))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._heart.release()
        self._freed()
