import asyncio
from dataclasses import replace

import pytest

from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.errors import InvalidValue, RunNotFound
from runtime.domain.repositories.runs import RunFilter, RunTotals
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import NO_USAGE
from runtime.domain.value_objects.ids import AgentId, RunId
from tests.contracts.conftest import Storage
from tests.contracts.samples import ALL, OTHER_PROJECT, a_run, all_of


async def listed(
    uow: UnitOfWorkFactory, where: RunFilter | None = None, page_size: int = 10
) -> list[Run]:
    runs: list[Run] = []
    after = None
    while True:
        async with uow(ALL) as work:
            page = await work.runs.page(where or RunFilter(), limit=page_size, after=after)
        runs += [run for run in page.items if isinstance(run, Run)]
        after = page.next_cursor
        if after is None:
            return runs


async def test_a_run_reads_back_the_same(storage: Storage) -> None:
    full = a_run()
    bare = a_run(
        finish_reason=None,
        status=RunStatus.FAILED,
        error_code="upstream_error",
        first_token_ms=None,
        usage=NO_USAGE,
        usage_estimated=False,
        models=(),
        steps=(),
        tools=(),
        session_id=None,
        metadata={},
    )
    await storage.run_log.write([full, bare])

    async with storage.uow(ALL) as work:
        assert await work.runs.get(full.id) == full
        assert await work.runs.get(bare.id) == bare


async def test_an_unknown_run_is_not_found(uow: UnitOfWorkFactory) -> None:
    async with uow(ALL) as work:
        with pytest.raises(RunNotFound, match="run_404"):
            await work.runs.get(RunId("run_404"))


async def test_a_run_of_another_project_does_not_exist(storage: Storage) -> None:
    run = a_run()
    await storage.run_log.write([run])

    async with storage.uow(all_of(OTHER_PROJECT)) as work:
        with pytest.raises(RunNotFound, match=f"^Run '{run.id}' does not exist.$"):
            await work.runs.get(run.id)
        assert (await work.runs.page(RunFilter(), limit=5, after=None)).items == []
        assert await work.runs.totals() == RunTotals(0, 0, 0)


async def test_one_batch_holds_runs_of_every_project(storage: Storage) -> None:
    ours, theirs = a_run(), a_run(project_id=OTHER_PROJECT)
    await storage.run_log.write([ours, theirs])

    for run in (ours, theirs):
        async with storage.uow(all_of(run.project_id)) as work:
            assert (await work.runs.page(RunFilter(), limit=5, after=None)).items == [run]


async def test_a_run_written_again_is_left_as_it_is(storage: Storage) -> None:
    first, second = a_run(minute=1), a_run(minute=2)
    await storage.run_log.write([first])
    await storage.run_log.write([replace(first, status=RunStatus.FAILED), second, second])
    await storage.run_log.write([])

    assert await listed(storage.uow) == [second, first]


async def test_batches_written_at_once_all_arrive(storage: Storage) -> None:
    batches = [[a_run() for _ in range(5)] for _ in range(8)]
    await asyncio.gather(*(storage.run_log.write(batch) for batch in batches))

    assert len(await listed(storage.uow)) == 40


async def test_a_batch_is_written_whole_or_not_at_all(storage: Storage) -> None:
    with pytest.raises(InvalidValue):
        await storage.run_log.write([a_run(), a_run(model="a\x00b"), a_run()])

    assert await listed(storage.uow) == []


async def test_an_identifier_too_long_for_an_index_is_an_invalid_value(storage: Storage) -> None:
    with pytest.raises(InvalidValue) as refusal:
        await storage.run_log.write([a_run(session_id="s" * 257)])
    await storage.run_log.write([a_run(session_id="🦊" * 256)])

    assert refusal.value.param == "session_id"


async def test_pages_are_newest_first_and_complete(storage: Storage) -> None:
    minutes = [3, 1, 4, 1, 5, 9, 2]
    await storage.run_log.write([a_run(minute=minute) for minute in minutes])

    started = [run.started_at for run in await listed(storage.uow, page_size=2)]
    assert started == sorted(started, reverse=True)
    assert len(started) == len(minutes)


async def test_pages_neither_repeat_nor_skip_while_runs_end(storage: Storage) -> None:
    old = [a_run(minute=0) for _ in range(6)]
    await storage.run_log.write(old)
    seen: list[RunId] = []
    after = None
    for _ in range(3):
        async with storage.uow(ALL) as work:
            page = await work.runs.page(RunFilter(), limit=2, after=after)
        seen += [run.id for run in page.items]
        after = page.next_cursor
        await storage.run_log.write([a_run(minute=1)])

    assert sorted(seen) == sorted(run.id for run in old)
    assert after is None


async def test_every_filter_narrows_the_list(storage: Storage) -> None:
    one = a_run(agent_id=AgentId("agent_2"))
    two = a_run(status=RunStatus.CANCELLED)
    three = a_run(session_id="session-2")
    await storage.run_log.write([one, two, three])

    assert await listed(storage.uow, RunFilter(agent_id=AgentId("agent_2"))) == [one]
    assert await listed(storage.uow, RunFilter(status=RunStatus.CANCELLED)) == [two]
    assert await listed(storage.uow, RunFilter(session_id="session-2")) == [three]
    both = RunFilter(session_id="session-2", status=RunStatus.CANCELLED)
    assert await listed(storage.uow, both) == []


async def test_a_cursor_that_is_none_is_refused(uow: UnitOfWorkFactory) -> None:
    async with uow(ALL) as work:
        with pytest.raises(InvalidValue) as refusal:
            await work.runs.page(RunFilter(), limit=2, after="garbage")
    assert refusal.value.param == "after"


async def test_totals_count_every_run_of_the_project(storage: Storage) -> None:
    async with storage.uow(ALL) as work:
        assert await work.runs.totals() == RunTotals(0, 0, 0)
    await storage.run_log.write(
        [
            a_run(duration_ms=100),
            a_run(duration_ms=200.5, status=RunStatus.FAILED),
            a_run(duration_ms=300, status=RunStatus.CANCELLED),
            a_run(duration_ms=9_999, project_id=OTHER_PROJECT),
        ]
    )

    async with storage.uow(ALL) as work:
        totals = await work.runs.totals()
    assert (totals.runs, totals.failed) == (3, 1)
    assert totals.average_duration_ms == pytest.approx(600.5 / 3)
