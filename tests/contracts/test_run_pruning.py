"""Forgetting runs: what ended long ago goes with all that it left, whatever goes on stays."""

from dataclasses import replace
from functools import partial

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.entities.runs import RunStatus
from runtime.domain.events.runs import RunStarted
from runtime.domain.value_objects.ids import RunId, uuid7_of
from runtime.infrastructure.repositories.run_pruning import SqlRunPruner
from runtime.infrastructure.repositories.runs import SqlRunLog
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.contracts.samples import a_run, minutes_past_noon
from tests.durable import a_durable_run
from tests.fakes import Published


def made(minute: float) -> RunId:
    return RunId(f"run_{uuid7_of(minutes_past_noon(minute), 1)}")


async def left(engine: AsyncEngine, table: str, column: str = "id") -> set[str]:
    async with engine.connect() as connection:
        return set((await connection.execute(text(f"SELECT {column} FROM {table}"))).scalars())


async def test_records_of_what_ended_before_are_gone(engine: AsyncEngine) -> None:
    old = a_run(id=made(0))
    long = a_run(id=made(1), minute=1, duration_ms=600_000)
    new = a_run(id=made(9), minute=9)
    await SqlRunLog(engine).write([old, long, new])

    assert await SqlRunPruner(engine).prune(minutes_past_noon(5)) == 1
    assert await left(engine, "runs") == {long.id, new.id}


async def test_more_than_one_batch_of_durable_runs_goes_with_its_events(
    engine: AsyncEngine,
) -> None:
    uow = partial(sql_unit_of_work, engine, Published())
    at = minutes_past_noon(1)
    ended = replace(a_durable_run(), status=RunStatus.COMPLETED, ended_at=at)
    runs = [replace(ended, id=RunId(f"run_{n}")) for n in range(60)]
    runs.append(replace(ended, id=RunId("run_late"), ended_at=minutes_past_noon(9)))
    runs.append(a_durable_run("run_open"))
    async with uow(ended.scope) as work:
        for run in runs:
            await work.durable.add(run)
            await work.run_events.append(run.id, 0, [RunStarted(run.id)])
        await work.commit()

    assert await SqlRunPruner(engine).prune(minutes_past_noon(5)) == 60
    assert await left(engine, "durable_runs") == {"run_late", "run_open"}
    assert await left(engine, "run_events", "run_id") == {"run_late", "run_open"}
