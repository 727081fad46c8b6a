"""Who answers, and what is read of it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from runtime.application.services.execution import Execution
from runtime.domain.entities.runs import Run
from runtime.domain.errors import DomainError
from runtime.domain.events.runs import RunCancelled, RunEvent, RunFailed


@dataclass(slots=True)
class Sourced:
    """One event and the number of the source that it comes from."""

    source: int
    event: RunEvent


Batch = Sequence[Sourced]
"""At least one event, all of one source, in order. A terminal event is the last of its batch."""
Stream = AsyncGenerator[Batch]
Operator = Callable[[Stream], Stream]
"""Makes one source's stream another one. It closes what it reads when it is closed."""
Begin = Callable[[], Awaitable[Execution]]


class Source:
    """The agent or the model that answers; its run begins with `begin` or when it is first read."""

    def __init__(self, index: int, name: str, begin: Begin) -> None:
        self.index = index
        self.name = name
        """As the caller named it."""
        self.through: Operator | None = None
        """What its events go through before anybody reads them."""
        self.execution: Execution | None = None
        self._begin = begin
        self._cancelled = False

    async def begin(self) -> None:
        """Raises what starting a run raises."""
        self.execution = await self._begin()

    def batches(self) -> Stream:
        own = self._batches()
        return self.through(own) if self.through else own

    def cancel(self) -> None:
        """It ends soon, with RunCancelled for its reader."""
        self._cancelled = True
        if self.execution:
            self.execution.cancel()

    async def aclose(self) -> None:
        """Cancel it, and wait until it has stopped."""
        self.cancel()
        if self.execution:
            await self.execution.aclose()

    @property
    def record(self) -> Run | None:
        records = self.execution.records if self.execution else ()
        return records[0] if records else None

    async def _batches(self) -> Stream:
        index = self.index
        if self.execution is None:
            if self._cancelled:
                yield [Sourced(index, RunCancelled())]
                return
            try:
                await self.begin()
            except DomainError as error:
                yield [Sourced(index, RunFailed(error))]
                return
        assert self.execution is not None
        async with aclosing(self.execution.batches()) as batches:
            async for _, events in batches:
                yield [Sourced(index, event) for event in events]
