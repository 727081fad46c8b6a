"""The log of durable runs, as attempts write it."""

from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import InvalidValue, Saturated
from runtime.domain.events.runs import (
    OutputDiscarded,
    RunEvent,
    RunFailed,
    RunResumed,
    RunStarted,
    TextDelta,
    ToolCalled,
    UsageReported,
)
from runtime.domain.repositories.durable import AttemptEntry
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.repositories.attempt_log import SqlAttemptLog
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.contracts.conftest import goes_on_in_sql
from tests.durable import a_durable_run
from tests.fakes import Published

EVENTS: list[RunEvent] = [
    RunStarted(RunId("run_1")),
    TextDelta("你好 \x00 “quoted”"),
    ToolCalled("call_1", "pay", '{"amount": 1e400}'),
    UsageReported(Usage(3, 4), "model-1", called="openai/model"),
    OutputDiscarded(1),
    RunResumed(2),
]


async def going_on(engine: AsyncEngine, id: str, attempt: int = 1) -> DurableRun:
    run = replace(a_durable_run(RunId(id)), status=RunStatus.RUNNING, attempt=attempt)
    await goes_on_in_sql(engine, run)
    return run


async def logged(engine: AsyncEngine, run: DurableRun) -> list[RunEvent]:
    async with sql_unit_of_work(engine, Published(), run.scope) as work:
        return list(await work.run_events.read(run.id, after=0, limit=100))


def entry(run: DurableRun, after: int, *events: RunEvent, attempt: int = 1) -> AttemptEntry:
    return AttemptEntry(run.id, run.scope, attempt, after, events)


async def test_what_is_appended_reads_back_the_same(engine: AsyncEngine) -> None:
    run = await going_on(engine, "run_1")

    assert await SqlAttemptLog(engine).append([entry(run, 0, *EVENTS)]) == [True]
    assert await logged(engine, run) == EVENTS


async def test_many_runs_are_written_together_and_each_by_its_own_attempt(
    engine: AsyncEngine,
) -> None:
    held, taken = await going_on(engine, "run_1"), await going_on(engine, "run_2", attempt=2)
    entries = [entry(held, 0, TextDelta("a"), TextDelta("b")), entry(taken, 0, TextDelta("c"))]

    assert list(await SqlAttemptLog(engine).append(entries)) == [True, False]
    assert await logged(engine, held) == [TextDelta("a"), TextDelta("b")]
    assert await logged(engine, taken) == []


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.WAITING, RunStatus.CANCELLED])
async def test_nothing_is_written_for_a_run_that_does_not_go_on(
    engine: AsyncEngine, status: RunStatus
) -> None:
    run = replace(a_durable_run(RunId("run_1")), status=status, attempt=1)
    await goes_on_in_sql(engine, run)

    assert await SqlAttemptLog(engine).append([entry(run, 0, TextDelta("a"))]) == [False]
    assert await logged(engine, run) == []


async def test_an_entry_whose_answer_was_lost_may_be_written_again(engine: AsyncEngine) -> None:
    run, log = await going_on(engine, "run_1"), SqlAttemptLog(engine)
    for _ in range(2):
        assert await log.append([entry(run, 0, TextDelta("a"), TextDelta("b"))]) == [True]

    assert await logged(engine, run) == [TextDelta("a"), TextDelta("b")]


async def test_a_failure_keeps_its_kind_and_its_words(engine: AsyncEngine) -> None:
    run = await going_on(engine, "run_1")
    await SqlAttemptLog(engine).append([entry(run, 0, RunFailed(Saturated("seats", 3)))])

    (event,) = await logged(engine, run)
    assert isinstance(event, RunFailed)
    assert isinstance(event.error, Saturated)
    assert str(event.error) == str(Saturated("seats", 3))


async def test_what_no_database_can_hold_is_refused(engine: AsyncEngine) -> None:
    run = await going_on(engine, "run_1")
    with pytest.raises(InvalidValue):
        await SqlAttemptLog(engine).append([entry(run, 0, TextDelta("half \ud800"))])

    assert await logged(engine, run) == []
