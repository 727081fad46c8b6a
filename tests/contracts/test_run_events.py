import asyncio

import pytest

from runtime.domain.errors import InvalidValue, Saturated
from runtime.domain.events.runs import (
    ReasoningDelta,
    RefusalDelta,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId, new_run_id
from tests.contracts.samples import ANN, BOB, OTHER_PROJECT, PROJECT, all_of

MINE = Scope(PROJECT, ANN)
EVERYTHING: list[RunEvent] = [
    RunStarted(RunId("run_1")),
    StepStarted("s1", "answer"),
    ReasoningDelta("Hm."),
    TextDelta("Grüße 👍"),
    TextDelta("x", {"content": [{"token": "x", "logprob": -1.5}]}),
    RefusalDelta("No."),
    ToolCalled("c1", "search", "{}"),
    ToolReturned("c1", "search", "error", "broken", 1.5),
    ToolCallDelta(0, "x1", "pay", '{"a"'),
    UsageReported(Usage(1, 2, 3, 4), "demo", estimated=True),
    StepFinished("s1", "answer", "success", 2.5, 2),
    RunCompleted("length", Usage(1, 2, 3, 4)),
    RunCancelled(),
]


async def written(uow: UnitOfWorkFactory, run: RunId, after: int, *events: RunEvent) -> bool:
    async with uow(MINE) as work:
        if not await work.run_events.append(run, after, events):
            return False
        await work.commit()
    return True


async def read(
    uow: UnitOfWorkFactory, run: RunId, after: int = 0, limit: int = 99
) -> list[RunEvent]:
    async with uow(MINE) as work:
        return list(await work.run_events.read(run, after=after, limit=limit))


async def test_every_event_reads_back_the_same(uow: UnitOfWorkFactory) -> None:
    run = new_run_id()
    assert await written(uow, run, 0, *EVERYTHING)

    assert await read(uow, run) == EVERYTHING


async def test_a_failure_reads_back_as_what_it_was(uow: UnitOfWorkFactory) -> None:
    run = new_run_id()
    await written(uow, run, 0, RunFailed(Saturated("seats", 3)))

    (event,) = await read(uow, run)
    assert isinstance(event, RunFailed)
    assert isinstance(event.error, Saturated)
    assert str(event.error) == str(Saturated("seats", 3))


async def test_a_reader_goes_on_where_it_was(uow: UnitOfWorkFactory) -> None:
    run = new_run_id()
    await written(uow, run, 0, TextDelta("1"), TextDelta("2"))
    await written(uow, run, 2, TextDelta("3"), TextDelta("4"))

    assert await read(uow, run, after=1, limit=2) == [TextDelta("2"), TextDelta("3")]
    assert await read(uow, run, after=4) == []
    async with uow(MINE) as work:
        assert await work.run_events.last(run) == 4
        assert await work.run_events.last(new_run_id()) == 0


async def test_who_writes_a_number_second_has_lost_the_run(uow: UnitOfWorkFactory) -> None:
    run = new_run_id()
    await written(uow, run, 0, TextDelta("1"))
    assert await written(uow, run, 1, RunCancelled())

    assert not await written(uow, run, 1, TextDelta("2"), TextDelta("3"))
    assert await read(uow, run) == [TextDelta("1"), RunCancelled()]


async def test_of_many_who_write_a_number_at_once_one_does(uow: UnitOfWorkFactory) -> None:
    run = new_run_id()
    outcomes = await asyncio.gather(
        *(written(uow, run, 0, TextDelta(str(n)), RunCancelled()) for n in range(8))
    )

    assert sorted(outcomes) == [False] * 7 + [True]
    assert len(await read(uow, run)) == 2


async def test_nobody_reads_or_removes_somebody_else_s_events(uow: UnitOfWorkFactory) -> None:
    run = new_run_id()
    await written(uow, run, 0, TextDelta("1"))

    for scope in (Scope(PROJECT, BOB), all_of(OTHER_PROJECT)):
        async with uow(scope) as work:
            assert await work.run_events.read(run, after=0, limit=9) == []
            assert await work.run_events.last(run) == 0
            await work.run_events.remove(run)
            await work.commit()
    async with uow(Scope(PROJECT, BOB, administers=True)) as work:
        assert await work.run_events.last(run) == 1


async def test_removed_events_are_gone(uow: UnitOfWorkFactory) -> None:
    run, other = new_run_id(), new_run_id()
    await written(uow, run, 0, TextDelta("1"))
    await written(uow, other, 0, TextDelta("1"))
    async with uow(MINE) as work:
        await work.run_events.remove(run)
        await work.commit()

    assert await read(uow, run) == []
    assert len(await read(uow, other)) == 1


async def test_what_no_database_takes_none_takes(uow: UnitOfWorkFactory) -> None:
    with pytest.raises(InvalidValue):
        await written(uow, new_run_id(), 0, TextDelta("\ud800"))
