"""Responses that go on without their caller: the log, its readers, and who may end them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from runtime.application.services.background import BackgroundRuns, Pace, Reader
from runtime.application.services.engine import Execution
from runtime.domain.entities.responses import Response, ResponseStatus, response_id
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.errors import ConcurrentChange, Draining, ResponseNotFound, UpstreamFailed
from runtime.domain.events.runs import (
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    TextDelta,
)
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.identity import LOCAL_ADMIN
from runtime.domain.value_objects.items import MessageItem
from tests.fakes import Published, memory_unit_of_work
from tests.fakes_responses import MemoryResponseLeases, MemoryRunEventLog
from tests.unit.test_engine import Bench, says_hello

PACE = Pace(batch_s=0.001, poll_s=0.005, beat_s=0.01, beats_per_hold=2, lease_s=60)
SCOPE = LOCAL_ADMIN.scope


class Replica:
    """One process; several may share a store."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.clock = datetime(2026, 1, 1, tzinfo=UTC)
        self.uow = partial(memory_unit_of_work, bench.store, Published())
        self.runs = BackgroundRuns(
            self.uow,
            MemoryResponseLeases(bench.store),
            MemoryRunEventLog(bench.store),
            lambda: self.clock,
            PACE,
        )

    async def start(self) -> tuple[Response, Execution]:
        keeper = self.runs.run()
        execution = await self.bench.start(keepers=[keeper])
        response = a_response_of(execution)
        await keeper.begin(response, execution)
        return response, execution

    async def stored(self, response: Response) -> Response:
        async with self.uow(SCOPE) as work:
            return await work.responses.get(response.id)

    async def log(self, response: Response) -> list[RunEvent]:
        async with self.uow(SCOPE) as work:
            return list(await work.run_events.read(response.run_id, after=0, limit=999))

    async def events(self, response: Response) -> list[RunEvent]:
        return await all_of(self.runs.read(response, SCOPE))


class Paced:
    """Says one word each time it is let."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, _: RunInput, emit: Emit) -> None:
        while word := await self.steps.get():
            await emit(TextDelta(word))


@pytest.fixture
async def paced() -> Paced:
    return Paced()


@pytest.fixture
async def replica(paced: Paced) -> AsyncIterator[Replica]:
    made = Replica(Bench(paced))
    yield made
    made.bench.engine.cancel_all()
    await made.runs.stop()


async def all_of(reader: Reader) -> list[RunEvent]:
    return [event async for batch in reader.batches() for event in batch]


def text(response: Response) -> str:
    return "".join(i.message.text for i in response.output if isinstance(i, MessageItem))


def said(events: list[RunEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def recorded(execution: Execution) -> Run:
    async with asyncio.timeout(1):
        while not execution.records:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return execution.records[0]


async def until_logged(replica: Replica, response: Response, words: str) -> None:
    async with asyncio.timeout(2):
        while said(await replica.log(response)) != words:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_what_is_stored_is_there_before_the_reader_hears_of_the_end() -> None:
    replica = Replica(Bench(says_hello))
    response, _ = await replica.start()
    stored = response
    async for batch in replica.runs.read(response, SCOPE).batches():
        if isinstance(batch[-1], RunCompleted):
            stored = await replica.stored(response)

    assert (stored.status, text(stored), stored.usage) == ("completed", "Hello", Usage(3, 2))
    log = await replica.log(response)
    assert isinstance(log[0], RunStarted)
    assert log[-1] == RunCompleted("stop", Usage(3, 2))
    assert said(log) == "Hello"


async def test_readers_at_any_replica_and_any_time_read_the_same(
    replica: Replica, paced: Paced
) -> None:
    other = Replica(replica.bench)
    response, _ = await replica.start()
    early = [asyncio.create_task(each.events(response)) for each in (replica, other)]
    await asyncio.sleep(0)
    paced.steps.put_nowait("one ")
    await until_logged(replica, response, "one ")
    middle = [asyncio.create_task(each.events(response)) for each in (replica, other)]
    for word in ("two ", "three", ""):
        paced.steps.put_nowait(word)
        await asyncio.sleep(0.002)

    async with asyncio.timeout(2):
        found = await asyncio.gather(*early, *middle)
    found += [await other.events(response)]
    assert all(events == found[0] for events in found)
    assert said(found[0]) == "one two three"


async def test_a_reader_who_leaves_does_not_disturb_the_run(replica: Replica, paced: Paced) -> None:
    response, _ = await replica.start()
    reader = replica.runs.read(response, SCOPE)
    reading = asyncio.create_task(all_of(reader))
    paced.steps.put_nowait("one")
    await until_logged(replica, response, "one")
    reader.leave()
    async with asyncio.timeout(1):
        await reading
    paced.steps.put_nowait("")

    assert isinstance((await replica.events(response))[-1], RunCompleted)


async def test_cancelling_ends_the_run_and_keeps_what_it_had_said(
    replica: Replica, paced: Paced
) -> None:
    response, execution = await replica.start()
    paced.steps.put_nowait("Half a")
    await until_logged(replica, response, "Half a")
    ended = await replica.runs.cancel(response)

    assert (ended.status, text(ended)) == ("cancelled", "Half a")
    await execution.aclose()
    assert (await replica.log(response))[-1] == RunCancelled()
    assert (await replica.stored(response)).status == "cancelled"
    assert (await replica.bench.recorded()).status is RunStatus.CANCELLED


async def test_another_replica_can_cancel_it(replica: Replica, paced: Paced) -> None:
    response, execution = await replica.start()
    await Replica(replica.bench).runs.cancel(response)
    await replica.runs.beat(hold=False)
    async with asyncio.timeout(1):
        await execution.aclose()

    assert (await replica.stored(response)).status == "cancelled"
    assert (await replica.log(response))[-1] == RunCancelled()


async def test_a_run_that_was_ended_elsewhere_learns_it_when_it_writes(
    replica: Replica, paced: Paced
) -> None:
    response, execution = await replica.start()
    await Replica(replica.bench).runs.cancel(response)
    paced.steps.put_nowait("too late")
    assert (await recorded(execution)).status is RunStatus.CANCELLED
    assert said(await replica.log(response)) == ""


async def test_a_run_that_ends_after_its_response_was_ended_keeps_nothing(
    replica: Replica, paced: Paced
) -> None:
    response, execution = await replica.start()
    await until_logged(replica, response, "")
    await Replica(replica.bench).runs.cancel(response)
    paced.steps.put_nowait("")
    assert (await recorded(execution)).error_code in (ConcurrentChange.code, None)
    assert (await replica.stored(response)).status == "cancelled"


async def test_a_response_that_has_ended_is_not_cancelled_any_more() -> None:
    replica = Replica(Bench(says_hello))
    response, _ = await replica.start()
    await replica.events(response)

    assert (await replica.runs.cancel(response)).status == "completed"


async def test_a_run_that_fails_says_why_in_the_row_and_in_the_log() -> None:
    async def fails(_: RunInput, emit: Emit) -> None:
        await emit(TextDelta("Half a"))
        raise UpstreamFailed("The provider failed.")

    replica = Replica(Bench(fails))
    response, _ = await replica.start()
    end = (await replica.events(response))[-1]

    assert isinstance(end, RunFailed)
    assert str(end.error) == "The provider failed."
    stored = await replica.stored(response)
    assert (stored.status, text(stored)) == ("failed", "Half a")
    assert stored.failure
    assert stored.failure.code == "server_error"


async def test_a_run_that_the_runtime_stops_has_failed(replica: Replica, paced: Paced) -> None:
    response, _ = await replica.start()
    replica.bench.engine.cancel_all()
    await replica.runs.stop()

    stored = await replica.stored(response)
    assert stored.status == "failed"
    assert stored.failure
    assert "stopped" in stored.failure.message
    assert isinstance((await replica.log(response))[-1], RunFailed)


async def test_what_a_dead_process_left_is_ended_by_another(replica: Replica, paced: Paced) -> None:
    response, _ = await replica.start()
    paced.steps.put_nowait("Half a")
    await until_logged(replica, response, "Half a")
    other = Replica(replica.bench)
    await other.runs.beat(hold=True)
    assert (await other.stored(response)).status == "in_progress"
    other.clock += timedelta(seconds=PACE.lease_s + 1)
    await other.runs.beat(hold=True)

    stored = await other.stored(response)
    assert (stored.status, text(stored)) == ("failed", "Half a")
    assert stored.failure
    assert stored.failure.code == "server_error"
    assert isinstance((await other.log(response))[-1], RunFailed)


async def test_a_living_process_keeps_its_runs(replica: Replica, paced: Paced) -> None:
    response, _ = await replica.start()
    other = Replica(replica.bench)
    for each in (replica, other):
        each.clock += timedelta(seconds=PACE.lease_s - 1)
    await replica.runs.beat(hold=True)
    other.clock += timedelta(seconds=PACE.lease_s - 1)
    await other.runs.beat(hold=True)

    assert (await other.stored(response)).status == "in_progress"


async def test_a_response_that_can_t_be_stored_does_not_start(replica: Replica) -> None:
    keeper = replica.runs.run()
    execution = await replica.bench.start(keepers=[keeper])
    broken = replace(a_response_of(execution), settings={"a": "\ud800"})
    with pytest.raises(Exception, match="surrogate"):
        await keeper.begin(broken, execution)

    assert (await recorded(execution)).status is RunStatus.CANCELLED
    with pytest.raises(ResponseNotFound):
        await replica.stored(broken)


async def test_a_replica_that_closes_sends_readers_of_other_s_runs_away(
    replica: Replica, paced: Paced
) -> None:
    response, _ = await replica.start()
    other = Replica(replica.bench)
    reading = asyncio.create_task(other.events(response))
    await asyncio.sleep(0.01)
    other.runs.closing = True

    with pytest.raises(Draining):
        async with asyncio.timeout(1):
            await reading


async def test_a_reader_of_what_is_removed_hears_of_it() -> None:
    replica = Replica(Bench(says_hello))
    response, _ = await replica.start()
    await replica.events(response)
    async with replica.uow(SCOPE) as work:
        await work.responses.remove(response.id)
        await work.run_events.remove(response.run_id)
        await work.commit()

    with pytest.raises(ResponseNotFound):
        await replica.events(response)


def a_response_of(execution: Execution) -> Response:
    return Response(
        id=response_id(execution.id),
        project_id=LOCAL_ADMIN.project_id,
        owner_id=LOCAL_ADMIN.user_id,
        model="support",
        status=ResponseStatus.IN_PROGRESS,
        background=True,
        previous_id=None,
        conversation=None,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
