"""Schedules on every store."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from runtime.application.services.catalogue import AgentCatalogue
from runtime.application.services.scheduler import Scheduler
from runtime.domain.entities.durable import DurableRun, RunOrder, RunProblem
from runtime.domain.entities.runs import RunStatus
from runtime.domain.entities.schedules import Schedule, ScheduleTick, TickStatus
from runtime.domain.errors import (
    ConcurrentChange,
    InvalidValue,
    ScheduleNotFound,
    TooManySchedules,
)
from runtime.domain.repositories.schedules import ScheduleBook, ScheduleFilter
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import ChatRole, GenerationOptions, Message
from runtime.domain.value_objects.identity import KeyScope, Principal, Role, Scope
from runtime.domain.value_objects.ids import (
    ProjectId,
    RunId,
    ScheduleId,
    UserId,
    new_schedule_id,
)
from runtime.domain.value_objects.schedules import Backfill, Cron, Every, Overlap
from runtime.infrastructure.calendar import CronCalendar
from runtime.infrastructure.repositories.schedule_book import SqlScheduleBook, SqlTickPruner
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.contracts.conftest import Connect, Storage
from tests.contracts.samples import (
    ANN,
    BOB,
    NOON,
    OTHER_PROJECT,
    PROJECT,
    a_line,
    a_version,
    all_of,
    minutes_past_noon,
    publish,
    store,
)
from tests.fakes import Published
from tests.fakes_schedules import NotedDispatcher

ANNS = Scope(PROJECT, ANN)
BOBS = Scope(PROJECT, BOB)
EVERYTHING: dict[str, Any] = {
    "trigger": Every(3_600, NOON),
    "backfill": Backfill.ALL,
    "max_backfill": 7,
    "overlap": Overlap.SKIP,
    "priority": -3,
    "deadline_s": 90.5,
    "enabled": False,
    "paused_because": "10 ticks in a row could not begin a run.",
    "last_tick": minutes_past_noon(-1),
    "last_run_id": RunId("run_1"),
    "last_error": RunProblem("model_not_found", "There is no 'ü'."),
    "failures": 10,
}


def a_schedule(
    id: ScheduleId | None = None,
    *,
    project: ProjectId = PROJECT,
    owner: UserId = ANN,
    minute: float = 0,
    **changes: Any,  # noqa: ANN401 - of any field
) -> Schedule:
    caller = Principal(
        owner,
        project,
        frozenset({Role.EDITOR}),
        limited_to=frozenset({KeyScope.MODELS}),
        claims={"team": "a"},
    )
    schedule = Schedule(
        id=id or new_schedule_id(),
        project_id=project,
        owner_id=owner,
        name="nightly digest 👍",
        model="support",
        order=RunOrder(
            caller=caller,
            messages=[Message(ChatRole.USER, "Sum up the day.")],
            options=GenerationOptions(temperature=0.5, stop=("END",)),
            session="s-1",
            items=[],
            metadata={"n": [1, 2.5, None]},
        ),
        trigger=Cron("0 7 * * mon-fri", "Europe/Berlin"),
        next_at=NOON,
        created_at=minutes_past_noon(minute),
        updated_at=minutes_past_noon(minute),
    )
    return replace(schedule, **changes)


def a_tick(schedule: Schedule, minute: float = 0, **changes: Any) -> ScheduleTick:  # noqa: ANN401 - of any field
    at = minutes_past_noon(minute)
    tick = ScheduleTick.of(schedule, at, TickStatus.STARTED, at + timedelta(seconds=1))
    return replace(tick, **changes)


def a_run_of(tick: ScheduleTick, schedule: Schedule) -> DurableRun:
    agent = a_version(a_line())
    return schedule.run(tick.id, agent, schedule.order, tick.decided_at)


async def add(uow: UnitOfWorkFactory, *schedules: Schedule, most: int = 100) -> None:
    for schedule in schedules:
        async with uow(Scope(schedule.project_id, schedule.owner_id)) as work:
            await work.schedules.add(schedule, most)
            await work.commit()


async def record(uow: UnitOfWorkFactory, tick: ScheduleTick, run: DurableRun | None = None) -> bool:
    async with uow(Scope(tick.project_id, tick.owner_id)) as work:
        new = await work.schedules.record(tick)
        if run:
            await work.durable.add(run)
        await work.commit()
    return new


async def the(uow: UnitOfWorkFactory, id: ScheduleId, scope: Scope = ANNS) -> Schedule:
    async with uow(scope) as work:
        return await work.schedules.get(id)


async def advanced(uow: UnitOfWorkFactory, seen: Schedule, became: Schedule) -> bool:
    async with uow(ANNS) as work:
        done = await work.schedules.advance(seen, became)
        await work.commit()
    return done


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
async def test_a_schedule_reads_back_the_same(
    uow: UnitOfWorkFactory, changes: dict[str, Any]
) -> None:
    schedule = a_schedule(**changes)
    await add(uow, schedule)

    assert await the(uow, schedule.id) == schedule


async def test_a_change_leaves_what_ticks_wrote_meanwhile(uow: UnitOfWorkFactory) -> None:
    seen = a_schedule()
    await add(uow, seen)
    later = minutes_past_noon(60)
    assert await advanced(uow, seen, replace(seen, next_at=later, failures=3))
    async with uow(ANNS) as work:
        saved = await work.schedules.save(seen, replace(seen, name="renamed", priority=5))
        await work.commit()

    assert saved == replace(seen, name="renamed", priority=5, revision=2, next_at=later, failures=3)
    assert await the(uow, seen.id) == saved


async def test_of_two_changes_at_once_one_counts(uow: UnitOfWorkFactory) -> None:
    seen = a_schedule()
    await add(uow, seen)
    async with uow(ANNS) as work:
        first = await work.schedules.save(seen, replace(seen, name="first"))
        await work.commit()

    async with uow(ANNS) as work:
        with pytest.raises(ConcurrentChange):
            await work.schedules.save(seen, replace(seen, name="second"))
        with pytest.raises(ConcurrentChange):
            await work.schedules.remove(seen)
        await work.schedules.remove(first)
        await work.commit()
    async with uow(ANNS) as work:
        with pytest.raises(ScheduleNotFound):
            await work.schedules.save(first, first)
        with pytest.raises(ScheduleNotFound):
            await work.schedules.remove(first)


async def test_a_tick_is_decided_once_and_not_of_what_was_changed_or_paused(
    uow: UnitOfWorkFactory,
) -> None:
    seen = a_schedule()
    await add(uow, seen)
    became = replace(seen, next_at=minutes_past_noon(60))

    assert await advanced(uow, seen, became)
    assert not await advanced(uow, seen, replace(seen, next_at=minutes_past_noon(90)))
    async with uow(ANNS) as work:
        paused = await work.schedules.save(became, became.paused())
        await work.commit()
    assert not await advanced(uow, became, replace(became, next_at=minutes_past_noon(90)))
    assert not await advanced(uow, paused, replace(paused, next_at=minutes_past_noon(90)))
    assert (await the(uow, seen.id)).next_at == became.next_at


async def test_a_tick_is_on_record_once(uow: UnitOfWorkFactory) -> None:
    schedule = a_schedule()
    await add(uow, schedule)
    tick = a_tick(schedule)

    assert await record(uow, tick, a_run_of(tick, schedule))
    assert not await record(uow, replace(tick, status=TickStatus.FAILED))
    async with uow(ANNS) as work:
        assert not await work.durable.add(a_run_of(tick, schedule))
        page = await work.schedules.ticks(schedule.id, limit=5, after=None)
    assert [each.tick for each in page.items] == [tick]


async def test_ticks_come_with_how_their_runs_do(uow: UnitOfWorkFactory) -> None:
    schedule, other = a_schedule(), a_schedule()
    await add(uow, schedule, other)
    problem = RunProblem("overlap", "A run of the schedule went on.")
    ended, going_on = a_tick(schedule, 1), a_tick(schedule, 2)
    skipped = a_tick(schedule, 3, status=TickStatus.SKIPPED, error=problem, manual=True)
    run = a_run_of(ended, schedule)
    await record(uow, ended, run)
    async with uow(ANNS) as work:
        assert await work.schedules.busy(schedule.id)
        failed = run.ended(RunStatus.FAILED, NOON, RunProblem("timeout", "It took too long."))
        assert await work.durable.finish(failed)
        assert not await work.schedules.busy(schedule.id)
        await work.commit()
    await record(uow, going_on, a_run_of(going_on, schedule))
    await record(uow, skipped)

    async with uow(ANNS) as work:
        page = await work.schedules.ticks(schedule.id, limit=2, after=None)
        rest = await work.schedules.ticks(schedule.id, limit=2, after=page.next_cursor)
        assert await work.schedules.busy(schedule.id)
        assert not await work.schedules.busy(other.id)
        with pytest.raises(InvalidValue):
            await work.schedules.ticks(other.id, limit=2, after=page.next_cursor)
    found = [*page.items, *rest.items]
    assert [each.tick for each in found] == [skipped, going_on, ended]
    assert [each.run_status for each in found] == [None, RunStatus.QUEUED, RunStatus.FAILED]
    assert [each.run_error for each in found] == [None, None, failed.error]
    assert rest.next_cursor is None


async def test_ticks_go_with_their_schedule_and_runs_stay(uow: UnitOfWorkFactory) -> None:
    schedule = a_schedule()
    await add(uow, schedule)
    tick = a_tick(schedule)
    await record(uow, tick, a_run_of(tick, schedule))
    async with uow(ANNS) as work:
        await work.schedules.remove(schedule)
        await work.commit()

    async with uow(ANNS) as work:
        assert (await work.schedules.ticks(schedule.id, limit=5, after=None)).items == []
        assert (await work.durable.get(tick.id)).status is RunStatus.QUEUED


async def test_people_see_their_own_and_admins_the_projects(uow: UnitOfWorkFactory) -> None:
    schedule = a_schedule(id=ScheduleId("sched_1"))
    await add(uow, schedule)
    await record(uow, a_tick(schedule))

    reviewer = Scope(PROJECT, BOB, sees_all=True)
    for scope in (BOBS, reviewer, all_of(OTHER_PROJECT)):
        async with uow(scope) as work:
            for doing in (
                work.schedules.get(schedule.id),
                work.schedules.save(schedule, replace(schedule, name="x")),
                work.schedules.remove(schedule),
            ):
                with pytest.raises(ScheduleNotFound):
                    await doing
            assert not await work.schedules.advance(schedule, schedule.paused())
            where = ScheduleFilter()
            assert (await work.schedules.page(where, limit=5, after=None)).items == []
            assert (await work.schedules.ticks(schedule.id, limit=5, after=None)).items == []
    assert await the(uow, schedule.id, all_of(PROJECT, BOB)) == schedule


async def test_nothing_is_written_for_somebody_else(uow: UnitOfWorkFactory) -> None:
    for scope in (BOBS, Scope(OTHER_PROJECT, ANN)):
        async with uow(scope) as work:
            with pytest.raises(ValueError, match="a row of"):
                await work.schedules.add(a_schedule(), 5)
            with pytest.raises(ValueError, match="a row of"):
                await work.schedules.record(a_tick(a_schedule()))


async def test_lists_are_newest_first_and_filtered(uow: UnitOfWorkFactory) -> None:
    schedules = [
        a_schedule(minute=n, model="ü" if n % 2 else "support", enabled=n != 3) for n in range(5)
    ]
    await add(uow, *schedules)

    async def page(limit: int = 10, after: str | None = None, **where: Any) -> Any:  # noqa: ANN401
        async with uow(ANNS) as work:
            return await work.schedules.page(ScheduleFilter(**where), limit=limit, after=after)

    first = await page(2)
    second = await page(10, first.next_cursor)
    assert [*first.items, *second.items] == schedules[::-1]
    assert (await page(model="ü")).items == [schedules[3], schedules[1]]
    assert (await page(model="ü", enabled=True)).items == [schedules[1]]
    assert (await page(enabled=False)).items == [schedules[3]]
    with pytest.raises(InvalidValue):
        await page(after="bm9uZQ")


async def test_an_owner_has_so_many_schedules_and_no_more(uow: UnitOfWorkFactory) -> None:
    await add(uow, a_schedule(owner=BOB), a_schedule(project=OTHER_PROJECT), most=2)
    results = await asyncio.gather(
        *(add(uow, a_schedule(), most=2) for _ in range(6)), return_exceptions=True
    )

    assert sorted(map(type, results), key=str) == [type(None)] * 2 + [TooManySchedules] * 4


async def test_those_are_due_that_are_enabled_and_whose_time_has_come(
    uow: UnitOfWorkFactory, book: ScheduleBook
) -> None:
    late, now = a_schedule(next_at=minutes_past_noon(-5)), a_schedule()
    await add(
        uow,
        now,
        late,
        a_schedule(next_at=NOON + timedelta(microseconds=1)),
        a_schedule(next_at=None),
        a_schedule(enabled=False),
    )

    due = await book.due(5)
    assert due.schedules == [late, now]
    assert due.now == NOON
    assert (await book.due(1)).schedules == [late]


@pytest.fixture
def book(storage: Storage) -> ScheduleBook:
    return storage.schedule_book(lambda: NOON)


async def test_the_databases_clock_counts(engine: Any) -> None:  # noqa: ANN401 - an engine
    before = datetime.now(NOON.tzinfo) - timedelta(seconds=5)

    assert before < await SqlScheduleBook(engine).now() < before + timedelta(seconds=15)
    assert before < (await SqlScheduleBook(engine).due(1)).now


async def test_old_ticks_are_pruned(engine: Any, connect: Connect) -> None:  # noqa: ANN401
    uow = partial(sql_unit_of_work, engine, Published())
    schedule = a_schedule()
    await add(uow, schedule)
    for minute in (0, 1, 2):
        await record(uow, a_tick(schedule, minute))

    assert await SqlTickPruner(engine).prune(minutes_past_noon(1.5)) == 2
    async with uow(ANNS) as work:
        (left,) = (await work.schedules.ticks(schedule.id, limit=5, after=None)).items
    assert left.tick.at == minutes_past_noon(2)


async def test_two_processes_keep_each_of_200_ticks_once(
    database_url: str, connect: Connect
) -> None:
    """Twenty schedules with ten ticks each, all of them due, and two processes at once."""
    engines = [connect(database_url), connect(database_url)]
    uows = [
        lambda scope, engine=each: sql_unit_of_work(engine, Published(), scope) for each in engines
    ]
    line = a_line()
    agent = a_version(line)
    publish(line, agent)
    await store(uows[0], line, agent)
    start = NOON.replace(microsecond=0)
    now = start + timedelta(seconds=95)
    schedules = [
        a_schedule(trigger=Every(10, start), next_at=start, backfill=Backfill.ALL, max_backfill=100)
        for _ in range(20)
    ]
    await add(uows[0], *schedules)
    dispatchers = [NotedDispatcher(), NotedDispatcher()]
    tickers = [
        Scheduler(
            SqlScheduleBook(engine, lambda: now),
            uow,
            AgentCatalogue(uow),
            CronCalendar(),
            dispatcher,
            most_queued=1_000,
        )
        for engine, uow, dispatcher in zip(engines, uows, dispatchers, strict=True)
    ]

    async def until_nothing_is_due(ticker: Scheduler) -> None:
        while await ticker.turn():
            pass

    await asyncio.gather(*map(until_nothing_is_due, tickers))

    begun = [run.id for each in dispatchers for run in each.dispatched]
    assert len(begun) == len(set(begun)) == 200
    for schedule in schedules:
        async with uows[0](ANNS) as work:
            page = await work.schedules.ticks(schedule.id, limit=100, after=None)
        times = [each.tick.at for each in page.items]
        assert times == [start + timedelta(seconds=10 * n) for n in range(9, -1, -1)]
        assert {each.run_status for each in page.items} == {RunStatus.QUEUED}
        assert {each.tick.id for each in page.items} <= set(begun)
