"""Sources that say what they are told to, and streams to try a mode on."""

import asyncio
from collections.abc import Mapping, Sequence

from runtime.application.services.execution import Execution
from runtime.application.services.generation.builtin import generator_modes
from runtime.application.services.generation.modes import Single
from runtime.application.services.generation.sources import Batch, Source, Sourced, Stream
from runtime.domain.errors import DomainError
from runtime.domain.events.runs import (
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    TextDelta,
)
from runtime.domain.value_objects.ids import RunId

Item = RunEvent | Sequence[RunEvent] | asyncio.Event
DONE = RunCompleted("stop")


class ScriptedSource(Source):
    """Its batches are its script's items; an event is waited for, unless it is cancelled first."""

    def __init__(self, index: int, *script: Item, started: bool = True) -> None:
        super().__init__(index, f"source{index}", self._no_run)
        self.script: list[Item] = [
            *([RunStarted(RunId(f"run_{index}"))] if started else ()),
            *script,
        ]
        self.given = 0
        """Batches that were read."""
        self.read = False
        self.closed = False
        self.was_cancelled = asyncio.Event()

    async def _batches(self) -> Stream:
        self.read = True
        try:
            for item in self.script:
                if isinstance(item, asyncio.Event) and not await self._came(item):
                    yield [Sourced(self.index, RunCancelled())]
                    return
                if not isinstance(item, asyncio.Event):
                    self.given += 1
                    events = item if isinstance(item, Sequence) else [item]
                    yield [Sourced(self.index, event) for event in events]
        finally:
            self.closed = True

    def cancel(self) -> None:
        super().cancel()
        self.was_cancelled.set()

    async def _came(self, event: asyncio.Event) -> bool:
        waits = [asyncio.create_task(each.wait()) for each in (event, self.was_cancelled)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return not self.was_cancelled.is_set()

    async def _no_run(self) -> Execution:
        raise AssertionError("there is no run behind it")


def says(*texts: str) -> list[Item]:
    return [*map(TextDelta, texts), DONE]


def fails(error: DomainError, *texts: str) -> list[Item]:
    return [*map(TextDelta, texts), RunFailed(error)]


async def stream_of(*batches: Sequence[RunEvent], source: int = 0) -> Stream:
    for batch in batches:
        yield [Sourced(source, event) for event in batch]


def single(mode: str, config: Mapping[str, object] | None = None) -> Single:
    made = generator_modes().arrange(mode, config or {}).mode
    assert isinstance(made, Single)
    return made


async def read(stream: Stream) -> list[Batch]:
    return [batch async for batch in stream]


def events_of(batches: Sequence[Batch], source: int | None = None) -> list[RunEvent]:
    return [e.event for b in batches for e in b if source is None or e.source == source]


def texts_of(batches: Sequence[Batch], source: int | None = None) -> list[str]:
    return [e.text for e in events_of(batches, source) if isinstance(e, TextDelta)]
