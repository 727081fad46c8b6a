"""What a door reads of the runs that it started."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run
from runtime.domain.errors import Draining
from runtime.domain.events.runs import OUTPUT, TERMINAL, RunCancelled, RunEvent, RunFailed
from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.ids import RunId, SessionId

if TYPE_CHECKING:
    from runtime.application.services.engine import ActiveRun

PATIENCE_S = 15.0
"""A stream that says nothing for this long is begun all the same: proxies give up soon."""

Indexed = tuple[int, Sequence[RunEvent]]
"""Events of one choice, in order."""


class Execution:
    """The answer to one ExecuteAgent: as many runs as choices, read by one door.

    Close it, or read it to its end.
    """

    def __init__(self, agent: Agent, runs: "Sequence[ActiveRun]") -> None:
        self.agent = agent
        self.session_id: SessionId | None = None
        """The conversation that it is a turn of."""
        self._runs = runs
        self._reader = self._read()
        self._early: list[Indexed] = []
        self._pending: asyncio.Task[Indexed | None] | None = None

    @property
    def id(self) -> RunId:
        return self._runs[0].id

    @property
    def records(self) -> Sequence[Run]:
        """Of the runs that have ended."""
        return [run.record for run in self._runs if run.record]

    async def ready(self, within_s: float = PATIENCE_S) -> None:
        """Wait for the first output, but no longer than `within_s`: until then a failure is
        still a refusal. Raises what the run failed with."""
        until = monotonic() + within_s
        while (left_s := until - monotonic()) > 0:
            self._pending = self._pending or asyncio.create_task(self._step())
            await asyncio.wait({self._pending}, timeout=left_s)
            if not self._pending.done():
                return
            batch = self._pending.result()
            self._pending = None
            if batch is None:
                return
            self._early.append(batch)
            _raise_failure(batch[1])
            if any(isinstance(event, OUTPUT + TERMINAL) for event in batch[1]):
                return

    async def batches(self) -> AsyncGenerator[Indexed]:
        """Everything that happens, as (choice, events); every choice ends with a terminal event."""
        while self._early:
            yield self._early.pop(0)
        if self._pending:
            batch, self._pending = await self._pending, None
            if batch is None:
                return
            yield batch
        async for batch in self._reader:
            yield batch

    async def answers(self) -> Sequence[Answer]:
        """The choices, once all have ended. Raises what the first failing one failed with."""
        events: list[list[RunEvent]] = [[] for _ in self._runs]
        async for index, batch in self.batches():
            _raise_failure(batch)
            events[index] += batch
        return [Answer.of(each) for each in events]

    def cancel(self) -> None:
        """Every choice that still goes on ends soon, with RunCancelled for its reader."""
        for run in self._runs:
            if not run.task.done():
                run.cancel()

    async def aclose(self) -> None:
        """Cancel what still goes on, and wait until it has stopped."""
        self.cancel()
        if self._pending:
            self._pending.cancel()
        await asyncio.gather(*(run.task for run in self._runs), return_exceptions=True)

    async def _step(self) -> Indexed | None:
        return await anext(self._reader, None)

    async def _read(self) -> AsyncGenerator[Indexed]:
        if len(self._runs) == 1:
            channel = self._runs[0].channel
            while events := await channel.read():
                yield 0, events
            return
        reads = {
            asyncio.create_task(run.channel.read()): index for index, run in enumerate(self._runs)
        }
        try:
            while reads:
                done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    index = reads.pop(task)
                    if events := task.result():
                        reads[asyncio.create_task(self._runs[index].channel.read())] = index
                        yield index, events
        finally:
            for task in reads:
                task.cancel()


def _raise_failure(events: Sequence[RunEvent]) -> None:
    last = events[-1]
    if isinstance(last, RunFailed):
        raise last.error
    if isinstance(last, RunCancelled):
        raise Draining
