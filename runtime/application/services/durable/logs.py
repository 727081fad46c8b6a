"""Logs of durable runs: written by this process's attempts, read by anybody from any event on."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from runtime.application.services.batches import Batches
from runtime.domain.errors import Draining, InvalidValue
from runtime.domain.events.runs import TERMINAL, RunEvent
from runtime.domain.repositories.durable import AttemptEntry, AttemptLog
from runtime.domain.services.signals import RunSignals
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId

READ_AT_ONCE = 512
CHECK_EVERY = 10
"""Of the looks at a log in which nothing is new, one also sees that its run is still there."""


@dataclass(frozen=True, slots=True)
class Pace:
    batch_s: float = 0.02
    """Events of so long a time are written together."""
    poll_s: float = 0.05
    """Between two looks at the log of another process's run, where nobody says that it grew."""
    prompt_poll_s: float = 1.0
    """The same where somebody does."""


class OwnLog(Protocol):
    """Of a run that this process has."""

    @property
    def logged(self) -> Sequence[RunEvent]:
        """What is in the log."""


@dataclass
class RunLogs:
    uow: UnitOfWorkFactory
    log: AttemptLog
    signals: RunSignals
    pace: Pace = field(default_factory=Pace)
    closing: bool = False
    """Readers of other processes' runs are sent elsewhere."""
    _own: dict[RunId, OwnLog] = field(default_factory=dict)
    _readers: "dict[RunId, set[Reader]]" = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        self._writing = Batches(self.log.append)

    async def append(self, entry: AttemptEntry) -> bool:
        """Runs that write at the same time share a transaction. Raises DatabaseUnavailable,
        InvalidValue for what can't be stored."""
        try:
            return await self._writing.do(entry)
        except InvalidValue:
            # It may be another one's that was to be written with it.
            (won,) = await self.log.append([entry])
            return won

    async def all_of(self, run: RunId, scope: Scope) -> list[RunEvent]:
        """What is stored. Raises DatabaseUnavailable."""
        async with self.uow(scope) as work:
            return await all_events(work, run)

    def read(self, run: RunId, scope: Scope, after: int = 0) -> "Reader":
        return Reader(self, run, scope, after)

    def own(self, run: RunId) -> OwnLog | None:
        return self._own.get(run)

    def took(self, run: RunId, own: OwnLog) -> None:
        self._own[run] = own

    def left(self, run: RunId, own: OwnLog) -> None:
        if self._own.get(run) is own:
            del self._own[run]
        self.changed(run)

    def changed(self, run: RunId) -> None:
        for reader in self._readers.get(run, ()):
            reader.wake()

    def changed_all(self) -> None:
        """It is not known which."""
        for run in list(self._readers):
            self.changed(run)

    @property
    def watched(self) -> bool:
        """Whether somebody here reads a run of another process."""
        return any(run not in self._own for run in self._readers)

    def register(self, run: RunId, reader: "Reader") -> None:
        self._readers[run].add(reader)

    def unregister(self, run: RunId, reader: "Reader") -> None:
        self._readers[run].discard(reader)
        if not self._readers[run]:
            del self._readers[run]


class Reader:
    """Reads a run's events from any one on, wherever it goes on."""

    def __init__(self, logs: RunLogs, run: RunId, scope: Scope, after: int) -> None:
        self._logs = logs
        self._run = run
        self._scope = scope
        self.read = after
        """The number of the last event that was given out."""
        self._woken = asyncio.Event()
        self._left = False

    def wake(self) -> None:
        self._woken.set()

    def leave(self) -> None:
        """The events end soon; the run goes on."""
        self._left = True
        self.wake()

    async def batches(self) -> AsyncGenerator[Sequence[RunEvent]]:
        """To the terminal event; the last of a batch has the number `read`. Raises RunNotFound
        when it is removed, Draining."""
        quiet = 0
        # First registered, then read: what is written in between wakes it.
        self._logs.register(self._run, self)
        try:
            while not self._left:
                self._woken.clear()
                events = await self._after(check=quiet % CHECK_EVERY == 0)
                if events:
                    self.read, quiet = self.read + len(events), 0
                    yield events
                    if isinstance(events[-1], TERMINAL):
                        return
                elif not self._left:
                    quiet += 1
                    await self._wait()
        finally:
            self._logs.unregister(self._run, self)

    async def _after(self, *, check: bool) -> Sequence[RunEvent]:
        """What is logged behind what was read. `check`: where there is nothing, see that there
        will be."""
        if own := self._logs.own(self._run):
            return own.logged[self.read :]
        async with self._logs.uow(self._scope) as work:
            events = await work.run_events.read(self._run, after=self.read, limit=READ_AT_ONCE)
            if check and not events:
                run = await work.durable.get(self._run)
                if run.status.final and not await work.run_events.read(
                    self._run, after=self.read, limit=1
                ):
                    # Whoever asks for what comes after the end.
                    self._left = True
            return events

    async def _wait(self) -> None:
        ours = self._logs.own(self._run)
        if self._logs.closing and not ours:
            raise Draining
        pace = self._logs.pace
        prompt = ours or self._logs.signals.prompt
        with suppress(TimeoutError):
            async with asyncio.timeout(pace.prompt_poll_s if prompt else pace.poll_s):
                await self._woken.wait()


async def all_events(work: UnitOfWork, run: RunId) -> list[RunEvent]:
    events: list[RunEvent] = []
    while True:
        more = await work.run_events.read(run, after=len(events), limit=READ_AT_ONCE)
        events += more
        if len(more) < READ_AT_ONCE:
            return events
