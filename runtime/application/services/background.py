"""Runs that go on without their caller, in the process that started them.

What happens in one is written to the log of its events, then told to its readers, who may be at
any replica. Whoever ends a response does so in one transaction: the row leaves `in_progress` and
the log gets its terminal event. Both can happen only once, so the owner, somebody who cancels and
the reaper of a dead process need no other lock.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runtime.application.services.batches import Batches
from runtime.application.services.engine import Execution, LoneKeeper
from runtime.domain.entities.responses import End, Response, end_of, open_items
from runtime.domain.entities.runs import Run
from runtime.domain.errors import (
    ConcurrentChange,
    DatabaseUnavailable,
    Draining,
    ExecutionFailed,
    InvalidValue,
)
from runtime.domain.events.runs import (
    TERMINAL,
    ReasoningDelta,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunStarted,
    TextDelta,
)
from runtime.domain.repositories.responses import LogEntry, ResponseLeases, RunEventLog
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import ResponseId
from runtime.domain.value_objects.items import items_of

logger = logging.getLogger(__name__)

READ_AT_ONCE = 512
REAP_AT_ONCE = 100
RETRY_S = 1.0
CLOSE_TRIES = 50
CHECK_EVERY = 10
"""Of the looks at a log in which nothing is new."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a process looks after its background runs."""

    batch_s: float = 0.03
    """Events of so long a time are written together."""
    poll_s: float = 0.1
    """Between two looks at the log of another process's run."""
    beat_s: float = 1.0
    """Between two looks at what others have cancelled."""
    beats_per_hold: int = 5
    lease_s: float = 20.0
    """Unheard of for so long, a process is dead to the others."""


@dataclass
class BackgroundRuns:
    uow: UnitOfWorkFactory
    leases: ResponseLeases
    log: RunEventLog
    now: Callable[[], datetime]
    pace: Pace = field(default_factory=Pace)
    closing: bool = False
    """Readers of other processes' runs are sent elsewhere."""
    _own: "dict[ResponseId, BackgroundRun]" = field(default_factory=dict)
    _readers: "dict[ResponseId, set[Reader]]" = field(default_factory=lambda: defaultdict(set))
    _tending: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.writing = Batches(self.log.append, self.pace.batch_s)
        """Runs that write at the same time share a transaction."""

    def run(self) -> "BackgroundRun":
        """The keeper to start a run with; then `begin` it."""
        return BackgroundRun(self)

    def read(self, response: Response, scope: Scope) -> "Reader":
        return Reader(self, response, scope)

    async def cancel(self, response: Response) -> Response:
        """As it is then: a response that has ended stays as it is."""
        ended = await self.close(response, RunCancelled())
        if own := self._own.get(response.id):
            own.lost()
        return ended

    async def close(self, response: Response, end: End) -> Response:
        """End a response from outside its run, with what its log has of it."""
        for _ in range(CLOSE_TRIES):
            async with self.uow(response.scope) as work:
                events: list[RunEvent] = []
                while more := await work.run_events.read(
                    response.run_id, after=len(events), limit=READ_AT_ONCE
                ):
                    events += more
                output = items_of(response.run_id, events, open_items(end))
                ended = response.ended(end, output, self.now())
                if not await work.responses.finish(ended):
                    return await work.responses.get(response.id)
                if await work.run_events.append(response.run_id, len(events), [end]):
                    await work.commit()
                    self.changed(response.id)
                    return ended
            # Its process wrote at the same time; what it wrote belongs to the output.
        raise ConcurrentChange(f"Response '{response.id}'")

    def start(self) -> None:
        self._tending = asyncio.create_task(self._tend(), name="background-runs")

    async def stop(self) -> None:
        """The runs have been cancelled or have ended; wait until that is written."""
        if self._tending:
            self._tending.cancel()
            with suppress(asyncio.CancelledError):
                await self._tending
        await asyncio.gather(*(own.task for own in self._own.values() if own.task))

    async def beat(self, *, hold: bool) -> None:
        """Raises DatabaseUnavailable."""
        if hold:
            await self._hold_and_reap()
        if own := dict(self._own):
            going_on = await self.leases.going_on(own.keys())
            for id in own.keys() - going_on:
                own[id].lost()

    async def _hold_and_reap(self) -> None:
        now = self.now()
        if self._own:
            await self.leases.hold(list(self._own), now + timedelta(seconds=self.pace.lease_s))
        for lapsed in await self.leases.lapsed(now, limit=REAP_AT_ONCE):
            async with self.uow(lapsed.scope) as work:
                response = await work.responses.get(lapsed.id)
            logger.warning("response %s is given up: its process is gone", lapsed.id)
            why = "The process that ran the agent ended before the answer was there. Ask again."
            await self.close(response, RunFailed(ExecutionFailed(why)))

    async def _tend(self) -> None:
        beats = 0
        while True:
            try:
                await self.beat(hold=beats % self.pace.beats_per_hold == 0)
            except DatabaseUnavailable:
                logger.warning("background runs can't be looked after: the database is away")
            # It has to outlive what one response brings about.
            except Exception:
                logger.exception("looking after the background runs failed")
            beats += 1
            await asyncio.sleep(self.pace.beat_s)

    async def append(self, entry: LogEntry) -> bool:
        """Raises DatabaseUnavailable, InvalidValue for what can't be stored."""
        try:
            return await self.writing.do(entry)
        except InvalidValue:
            # It may be another one's that was to be written with it.
            (won,) = await self.log.append([entry])
            return won

    def own(self, id: ResponseId) -> "BackgroundRun | None":
        return self._own.get(id)

    def took(self, own: "BackgroundRun", id: ResponseId) -> None:
        self._own[id] = own

    def left(self, id: ResponseId) -> None:
        self._own.pop(id, None)
        self.changed(id)

    def changed(self, id: ResponseId) -> None:
        for reader in self._readers.get(id, ()):
            reader.wake()

    def register(self, id: ResponseId, reader: "Reader") -> None:
        self._readers[id].add(reader)

    def unregister(self, id: ResponseId, reader: "Reader") -> None:
        self._readers[id].discard(reader)
        if not self._readers[id]:
            del self._readers[id]


class BackgroundRun(LoneKeeper):
    """One run of this process: writes its events as they come, and how it ended."""

    def __init__(self, runs: BackgroundRuns) -> None:
        self.task: asyncio.Task[None] | None = None
        self._runs = runs
        self._begun: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self._execution: Execution | None = None
        self._writing = asyncio.Lock()
        self._over = False
        self._seen = 0
        """Events of the run that are in the log."""
        self.logged: list[RunEvent] = []
        """What is in the log: what was written together may have become one event."""

    async def begin(self, response: Response, execution: Execution) -> None:
        """From now on it goes on by itself. Raises DatabaseUnavailable; then it does not."""
        runs = self._runs
        try:
            async with runs.uow(response.scope) as work:
                until = runs.now() + timedelta(seconds=runs.pace.lease_s)
                await work.responses.add(response, until)
                await work.commit()
        except BaseException:
            self._begun.set_result(None)
            await execution.aclose()
            raise
        self._execution = execution
        runs.took(self, response.id)
        self._begun.set_result(response)
        self.task = asyncio.create_task(self._write_all(response, execution), name=response.id)

    def lost(self) -> None:
        """Somebody else has ended the response."""
        self._over = True
        if self._execution:
            self._execution.cancel()

    async def keep(self, work: UnitOfWork, run: Run, events: Sequence[RunEvent]) -> None:
        async def write(entry: LogEntry) -> bool:
            assert entry.ends
            return await work.responses.finish(entry.ends) and await work.run_events.append(
                entry.run, entry.after, entry.events
            )

        await self._keep(run, events, write)

    async def keep_alone(self, run: Run, events: Sequence[RunEvent]) -> None:
        await self._keep(run, events, self._runs.append)

    async def _keep(
        self, run: Run, events: Sequence[RunEvent], write: Callable[[LogEntry], Awaitable[bool]]
    ) -> None:
        response = await self._begun
        if response is None:
            return
        async with self._writing:
            if self._over:
                _come_too_late(run, response)
                return
            self._over = True
            end = _end(run)
            output = items_of(run.id, events, open_items(end))
            rest = merged([*events[self._seen :], end])
            if not self.logged:
                rest = [RunStarted(run.id), *rest]
            ended = response.ended(end, output, run.ended_at)
            if not await write(
                LogEntry(response.scope, run.id, len(self.logged), rest, ends=ended)
            ):
                _come_too_late(run, response)

    async def release(self) -> None:
        """Whatever waits for the end hears of it when it is read off the run's channel."""

    async def _write_all(self, response: Response, execution: Execution) -> None:
        end: RunEvent = RunCancelled()
        try:
            async for _, events in execution.batches():
                end = events[-1]
                await self._write(response, [e for e in events if not isinstance(e, TERMINAL)])
            if isinstance(end, RunFailed) and await self._runs.leases.going_on([response.id]):
                await self._runs.close(response, end)
        # Its lease runs out, and whoever reaps it says that it failed.
        except Exception:
            logger.exception("response %s can't be written", response.id)
            await execution.aclose()
        finally:
            self._runs.left(response.id)

    async def _write(self, response: Response, events: Sequence[RunEvent]) -> None:
        """Persist, then publish."""
        together = merged(events)
        while together:
            async with self._writing:
                if self._over:
                    return
                entry = LogEntry(response.scope, response.run_id, len(self.logged), together)
                with suppress(DatabaseUnavailable):
                    if not await self._runs.append(entry):
                        self.lost()
                        return
                    self.logged += together
                    self._seen += sum(not isinstance(event, RunStarted) for event in events)
                    self._runs.changed(response.id)
                    return
            await asyncio.sleep(RETRY_S)


class Reader:
    """Reads a background response's events from the first one on, wherever it runs."""

    def __init__(self, runs: BackgroundRuns, response: Response, scope: Scope) -> None:
        self._runs = runs
        self._response = response
        self._scope = scope
        self._woken = asyncio.Event()
        self._left = False

    def wake(self) -> None:
        self._woken.set()

    def leave(self) -> None:
        """The events end soon; the run goes on."""
        self._left = True
        self.wake()

    async def batches(self) -> AsyncGenerator[Sequence[RunEvent]]:
        """To the terminal event. Raises ResponseNotFound when it is removed, Draining."""
        id, read, quiet = self._response.id, 0, 0
        # First registered, then read: what is written in between wakes it.
        self._runs.register(id, self)
        try:
            while not self._left:
                self._woken.clear()
                events = await self._after(read, check=quiet % CHECK_EVERY == 0)
                if events:
                    read, quiet = read + len(events), 0
                    yield events
                    if isinstance(events[-1], TERMINAL):
                        return
                else:
                    quiet += 1
                    await self._wait()
        finally:
            self._runs.unregister(id, self)

    async def _after(self, read: int, *, check: bool) -> Sequence[RunEvent]:
        """What is logged behind that. `check`: where there is nothing, see that the response is
        still there."""
        if own := self._runs.own(self._response.id):
            return own.logged[read:]
        async with self._runs.uow(self._scope) as work:
            events = await work.run_events.read(
                self._response.run_id, after=read, limit=READ_AT_ONCE
            )
            if check and not events:
                await work.responses.get(self._response.id)
            return events

    async def final(self) -> Response:
        """Once the terminal event is read."""
        async with self._runs.uow(self._scope) as work:
            return await work.responses.get(self._response.id)

    async def _wait(self) -> None:
        ours = self._runs.own(self._response.id)
        if self._runs.closing and not ours:
            raise Draining
        pace = self._runs.pace
        with suppress(TimeoutError):
            async with asyncio.timeout(pace.beat_s if ours else pace.poll_s):
                await self._woken.wait()


def merged(events: Sequence[RunEvent]) -> list[RunEvent]:
    """The same said in fewer events: pieces of text in a row become one."""
    fewer: list[RunEvent] = []
    pieces: list[str] = []

    def flush(kind: type[TextDelta | ReasoningDelta]) -> None:
        if pieces:
            fewer.append(kind("".join(pieces)))
            pieces.clear()

    kind: type[TextDelta | ReasoningDelta] = TextDelta
    for event in events:
        plain = isinstance(event, ReasoningDelta) or (
            isinstance(event, TextDelta) and event.logprobs is None
        )
        if (plain and type(event) is not kind) or not plain:
            flush(kind)
        if plain:
            assert isinstance(event, TextDelta | ReasoningDelta)
            kind = type(event)
            pieces.append(event.text)
        else:
            fewer.append(event)
    flush(kind)
    return fewer


def _come_too_late(run: Run, response: Response) -> None:
    """Raises ConcurrentChange, unless the run was cancelled for that: nothing that it made may be
    kept once its response has ended otherwise."""
    if not isinstance(end_of(run), RunCancelled):
        raise ConcurrentChange(f"Response '{response.id}'")


def _end(run: Run) -> End:
    end = end_of(run)
    if not isinstance(end, RunCancelled):
        return end
    # Whoever cancels a response ends it first; here the runtime itself stops.
    why = "The runtime was stopped before the answer was there. Ask again."
    return RunFailed(ExecutionFailed(why))
