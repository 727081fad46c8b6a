"""The answers to one StreamChat: runs of one or several sources, read as one stream."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from types import AsyncGeneratorType

from runtime.application.services.execution import PATIENCE_S
from runtime.application.services.generation.modes import Combinator, Mode
from runtime.application.services.generation.sources import Batch, Sourced, Stream
from runtime.application.services.generation.sources import Source as Source
from runtime.domain.entities.runs import Run
from runtime.domain.errors import DomainError, Draining, NoSourceAnswered
from runtime.domain.events.runs import (
    OUTPUT,
    TERMINAL,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
)
from runtime.domain.value_objects.answers import Answer


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What one source came to: an answer or an error."""

    source: Source
    answer: Answer | None
    error: DomainError | None
    record: Run | None
    """Of its run, if one began."""


class Generation:
    """Read `batches` to their end, or close it. Every source that is read at all ends with a
    terminal event, the last of its batch."""

    def __init__(self, sources: Sequence[Source], mode: Mode) -> None:
        self.sources = sources
        self.mixes = isinstance(mode, Combinator) and mode.mixes
        """Whether several answers come at once: then whoever shows them has to tell them apart."""
        self._stream = self._seen(mode.joined(sources))
        self._early: list[Batch] = []
        self._pending: asyncio.Task[Batch | None] | None = None
        self._completed = False
        self._errors: dict[int, DomainError] = {}

    @property
    def id(self) -> str:
        """Of its first run."""
        return next(source.execution.id for source in self.sources if source.execution)

    @property
    def failure(self) -> DomainError | None:
        """After the end: what it failed with, where no source came to a good one."""
        if self._completed or not self._errors:
            return None
        errors = list(self._errors.values())
        if len({error.code for error in errors}) == 1:
            return errors[0]
        named = [(self.sources[index].name, error) for index, error in self._errors.items()]
        return NoSourceAnswered(named)

    async def ready(self, within_s: float = PATIENCE_S) -> None:
        """Wait for the first output: until then a failure is still a refusal. Raises what the
        generation failed with."""
        until = monotonic() + within_s
        while (left_s := until - monotonic()) > 0:
            self._pending = self._pending or asyncio.create_task(self._step())
            await asyncio.wait({self._pending}, timeout=left_s)
            if not self._pending.done():
                return
            batch, self._pending = self._pending.result(), None
            if batch is None:
                if self.failure:
                    raise self.failure
                return
            self._early.append(batch)
            if any(isinstance(each.event, (*OUTPUT, RunCompleted)) for each in batch):
                return

    async def batches(self) -> Stream:
        while self._early:
            yield self._early.pop(0)
        if self._pending:
            batch, self._pending = await self._pending, None
            if batch is None:
                return
            yield batch
        async for batch in self._stream:
            yield batch

    async def answers(self) -> Sequence[SourceAnswer]:
        """Of every source that was read, once all have ended. Raises what the generation failed
        with."""
        events: dict[int, list[RunEvent]] = {}
        async for batch in self.batches():
            for each in batch:
                events.setdefault(each.source, []).append(each.event)
        if self.failure:
            raise self.failure
        return [self._answer(index, events[index]) for index in sorted(events)]

    def cancel(self) -> None:
        for source in self.sources:
            source.cancel()

    async def aclose(self) -> None:
        """Cancel what still goes on, and wait until it has stopped."""
        if self._pending:
            self._pending.cancel()
            await asyncio.wait({self._pending})
        await asyncio.gather(*(source.aclose() for source in self.sources))
        # Somebody else who waits for the next batch gets the end of every source.
        if not (isinstance(self._stream, AsyncGeneratorType) and self._stream.ag_running):
            await self._stream.aclose()

    def _answer(self, index: int, events: Sequence[RunEvent]) -> SourceAnswer:
        source, error = self.sources[index], self._errors.get(index)
        answer = None if error else Answer.of(events)
        return SourceAnswer(source, answer, error, source.record)

    async def _step(self) -> Batch | None:
        return await anext(self._stream, None)

    async def _seen(self, stream: Stream) -> Stream:
        async with aclosing(stream):
            async for batch in stream:
                last = batch[-1]
                if isinstance(last.event, TERMINAL):
                    self._end(last)
                yield batch

    def _end(self, last: Sourced) -> None:
        match last.event:
            case RunCompleted():
                self._completed = True
            case RunFailed(error=error):
                self._errors[last.source] = error
            case RunCancelled():
                self._errors[last.source] = Draining()
