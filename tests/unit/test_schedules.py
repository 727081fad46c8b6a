"""Schedules: what is due, what is begun, who may say so."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Unpack

import pytest

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.commands.schedules import (
    ChangeSchedule,
    CreateSchedule,
    OrderFields,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    RunScheduleNow,
    ScheduleFields,
    Timing,
)
from runtime.application.handlers import schedules as handlers
from runtime.application.queries.schedules import ScheduleQueries
from runtime.application.services.catalogue import AgentCatalogue
from runtime.application.services.scheduler import LATE, Scheduler, planned
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.durable import DurableRun, Origin
from runtime.domain.entities.keys import ApiKey
from runtime.domain.entities.runs import RunStatus
from runtime.domain.entities.schedules import (
    MOST_FAILURES,
    Schedule,
    TickStatus,
    TickView,
    run_id_of,
)
from runtime.domain.errors import (
    DatabaseUnavailable,
    Forbidden,
    InvalidCron,
    InvalidValue,
    ModelNotFound,
    ScheduleNotFound,
    StaleVersion,
    TooManyQueuedRuns,
    TooManySchedules,
    UnknownTimezone,
)
from runtime.domain.repositories.schedules import Due, ScheduleBook
from runtime.domain.value_objects.agents import AgentStatus
from runtime.domain.value_objects.chat import ChatRole, Message
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import (
    KeyId,
    ProjectId,
    ScheduleId,
    made_at,
)
from runtime.domain.value_objects.schedules import Backfill, Cron, Every, Overlap
from runtime.infrastructure.calendar import CronCalendar
from tests.contracts.samples import ANN, BOB, PROJECT, a_line, a_version, all_of, publish, store
from tests.contracts.samples import NOON as PRECISE_NOON
from tests.contracts.test_schedules import a_schedule
from tests.fakes import MemoryStore, Published, memory_unit_of_work
from tests.fakes_schedules import MemoryScheduleBook, NotedDispatcher

NOON = PRECISE_NOON.replace(microsecond=0)
CALENDAR = CronCalendar()
ANN_HERSELF = Principal(ANN, PROJECT, frozenset({Role.EDITOR}))
BOB_HIMSELF = Principal(BOB, PROJECT, frozenset({Role.REVIEWER}))
ADMIN = Principal(BOB, PROJECT, frozenset({Role.ADMIN}))
HOURLY = Timing(cron="0 * * * *")
ORDER = OrderFields(messages=[Message(ChatRole.USER, "Sum up the day.")])
FIELDS = ScheduleFields(name="digest", model="support")


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


class Uncritical(handlers.Agents):
    """Takes whatever options and sessions."""

    def __init__(self, catalogue: AgentCatalogue) -> None:
        self._catalogue = catalogue

    async def resolve(self, command: ExecuteAgent) -> Agent:
        return await self._catalogue.resolve(command.model, command.caller)

    async def check(self, agent: Agent, command: ExecuteAgent) -> None: ...


class World:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.uow = partial(memory_unit_of_work, self.store, Published())
        self.now = NOON
        self.book = MemoryScheduleBook(self.store, lambda: self.now)
        self.time = 0.0
        self.catalogue = AgentCatalogue(self.uow, lambda: self.time)
        self.dispatcher = NotedDispatcher()
        self.scheduler = self.ticker(self.book)
        self.desk = handlers.ScheduleDesk(
            self.uow, self.book, CALENDAR, Uncritical(self.catalogue), most=3, most_queued=5
        )
        self.queries = ScheduleQueries(self.uow, self.book, CALENDAR)
        self.line = a_line()
        self.agent = a_version(self.line)

    def ticker(self, book: ScheduleBook) -> Scheduler:
        return Scheduler(book, self.uow, self.catalogue, CALENDAR, self.dispatcher, most_queued=5)

    async def publish(self) -> None:
        publish(self.line, self.agent)
        await store(self.uow, self.line, self.agent)

    async def revoke(self) -> None:
        self.store.tables.agents[self.agent.id].status = AgentStatus.REVOKED
        self.time += 60

    async def create(
        self,
        actor: Principal = ANN_HERSELF,
        timing: Timing = HOURLY,
        **fields: Unpack[ScheduleFields],
    ) -> Schedule:
        known: ScheduleFields = {**FIELDS, **fields}
        command = CreateSchedule(actor=actor, timing=timing, order=ORDER, fields=known)
        return await handlers.CreateScheduleHandler(self.desk)(command)

    async def the(self, id: ScheduleId) -> Schedule:
        return await self.queries.get(ADMIN, id)

    async def ticks(self, id: ScheduleId) -> list[TickView]:
        """The oldest first."""
        page = await self.queries.ticks(ADMIN, id, limit=100, after=None)
        return list(page.items)[::-1]

    async def keep(self, at: datetime) -> None:
        """Whatever is due then."""
        self.now = at
        while await self.scheduler.turn():
            pass

    @property
    def runs(self) -> list[DurableRun]:
        return list(self.store.tables.durable.values())

    async def change(
        self,
        id: ScheduleId,
        actor: Principal = ANN_HERSELF,
        **given: Any,  # noqa: ANN401 - of any field
    ) -> Schedule:
        return await handlers.ChangeScheduleHandler(self.desk)(
            ChangeSchedule(actor=actor, id=id, **given)
        )

    async def pause(self, id: ScheduleId, actor: Principal = ANN_HERSELF) -> Schedule:
        return await handlers.PauseScheduleHandler(self.desk)(PauseSchedule(actor, id))

    async def resume(self, id: ScheduleId, actor: Principal = ANN_HERSELF) -> Schedule:
        return await handlers.ResumeScheduleHandler(self.desk)(ResumeSchedule(actor, id))

    async def run_now(self, id: ScheduleId, actor: Principal = ANN_HERSELF) -> TickView:
        return await handlers.RunScheduleNowHandler(self.desk, self.dispatcher)(
            RunScheduleNow(actor, id)
        )

    async def give_key(self, id: str = "key_1") -> Principal:
        key = ApiKey.create(
            KeyId(id),
            prefix=id,
            digest="d",
            name="CI",
            owner=ANN_HERSELF,
            by=ANN,
            at=NOON,
            expires_at=None,
        )
        async with self.uow(all_of(PROJECT)) as work:
            await work.keys.add(key)
            await work.commit()
        return key.principal

    async def revoke_key(self, id: str = "key_1") -> None:
        async with self.uow(all_of(PROJECT)) as work:
            key = await work.keys.get(KeyId(id))
            key.revoke(self.now)
            await work.keys.save(key)
            await work.commit()


@pytest.fixture
async def world() -> World:
    world = World()
    await world.publish()
    return world


# What is due


Minutes = tuple[float | None, ...]


def a_plan(backfill: Backfill, now: datetime, max_backfill: int = 10) -> Minutes:
    """Of a schedule for every ten minutes from noon on, in minutes past noon."""
    schedule = a_schedule(
        trigger=Every(600, NOON), next_at=NOON, backfill=backfill, max_backfill=max_backfill
    )
    plan = planned(schedule, now, CALENDAR)
    times = (plan.tick, plan.missed, plan.next_at)
    return tuple((each - NOON) / minutes(1) if each else None for each in times)


def test_a_tick_is_never_early() -> None:
    assert a_plan(Backfill.ALL, NOON - timedelta(microseconds=1)) == (None, None, 0)


@pytest.mark.parametrize("backfill", Backfill)
def test_a_tick_that_is_on_time_is_kept_whatever_becomes_of_missed_ones(backfill: Backfill) -> None:
    assert a_plan(backfill, NOON) == (0, None, 10)
    assert a_plan(backfill, NOON + LATE) == (0, None, 10)


@pytest.mark.parametrize(
    ("backfill", "plan"),
    [
        (Backfill.SKIP, (None, 0, 40)),
        (Backfill.ONE, (30, 0, 40)),
        (Backfill.ALL, (0, None, 10)),
    ],
)
def test_missed_ticks_are_left_out_or_made_up_for(backfill: Backfill, plan: Minutes) -> None:
    assert a_plan(backfill, NOON + minutes(35)) == plan


def test_after_a_gap_the_tick_that_is_on_time_is_kept() -> None:
    assert a_plan(Backfill.SKIP, NOON + minutes(30.5)) == (30, 0, 40)


def test_only_the_newest_of_many_missed_ticks_are_made_up_for() -> None:
    assert a_plan(Backfill.ALL, NOON + minutes(95), max_backfill=3) == (70, 0, 80)
    assert a_plan(Backfill.ALL, NOON + minutes(95), max_backfill=1) == (90, 0, 100)


def test_a_year_of_missed_minutes_is_no_more_work_than_one() -> None:
    schedule = a_schedule(trigger=Cron("* * * * *"), next_at=NOON)
    now = NOON + timedelta(days=365, minutes=2.5)

    plan = planned(schedule, now, CALENDAR)
    assert plan.tick == NOON + timedelta(days=365, minutes=2)
    assert plan.next_at == NOON + timedelta(days=365, minutes=3)


def test_the_run_of_a_tick_has_the_same_id_everywhere() -> None:
    one = run_id_of(ScheduleId("sched_1"), NOON)

    assert one == run_id_of(ScheduleId("sched_1"), NOON.astimezone())
    assert one != run_id_of(ScheduleId("sched_2"), NOON)
    assert one != run_id_of(ScheduleId("sched_1"), NOON + timedelta(seconds=1))
    assert made_at(one) == NOON


# What is begun


async def test_a_tick_begins_a_run_in_its_owners_name(world: World) -> None:
    made = await world.create(priority=5, deadline_s=60.0)
    await world.keep(NOON + minutes(59.9))
    assert world.runs == []

    at = NOON + minutes(60.01)
    await world.keep(at)
    (run,) = world.runs
    assert world.dispatcher.dispatched == [run]
    assert (run.project_id, run.owner_id, run.order.caller) == (PROJECT, ANN, ANN_HERSELF)
    assert (run.agent_id, run.model, run.priority) == (world.agent.id, "support", 5)
    assert [message.text for message in run.order.messages] == ["Sum up the day."]
    assert (run.created_at, run.deadline) == (at, at + minutes(1))
    assert (run.status, run.origin) == (RunStatus.QUEUED, Origin("schedule", made.id))
    (view,) = await world.ticks(made.id)
    assert (view.tick.at, view.tick.status) == (NOON + minutes(60), TickStatus.STARTED)
    kept = await world.the(made.id)
    assert (kept.last_run_id, kept.last_tick) == (run.id, NOON + minutes(60))
    assert (kept.next_at, kept.revision) == (NOON + minutes(120), made.revision)


async def test_every_missed_tick_is_made_up_for_once_where_that_is_asked_for(world: World) -> None:
    made = await world.create(backfill=Backfill.ALL, max_backfill=3)
    await world.keep(NOON + minutes(60 * 5 + 30))
    await world.keep(NOON + minutes(60 * 5 + 31))

    ticks = [(view.tick.at - NOON, view.tick.status) for view in await world.ticks(made.id)]
    assert ticks == [
        (minutes(60), TickStatus.MISSED),
        (minutes(180), TickStatus.STARTED),
        (minutes(240), TickStatus.STARTED),
        (minutes(300), TickStatus.STARTED),
    ]
    assert len(world.runs) == 3
    assert (await world.the(made.id)).next_at == NOON + minutes(360)


async def test_missed_ticks_that_are_left_out_are_on_record(world: World) -> None:
    made = await world.create()
    await world.keep(NOON + minutes(150))

    (view,) = await world.ticks(made.id)
    assert (view.tick.status, world.runs) == (TickStatus.MISSED, [])
    kept = await world.the(made.id)
    assert kept.last_error is not None
    assert (kept.last_error.code, kept.failures, kept.enabled) == ("missed", 0, True)


async def test_a_tick_waits_for_no_run_but_is_skipped_while_one_goes_on(world: World) -> None:
    made = await world.create(overlap=Overlap.SKIP)
    await world.keep(NOON + minutes(60))
    await world.keep(NOON + minutes(120))
    (run,) = world.runs
    ended = replace(run, status=RunStatus.COMPLETED, ended_at=world.now)
    world.store.tables.durable[run.id] = ended
    await world.keep(NOON + minutes(180))

    statuses = [view.tick.status for view in await world.ticks(made.id)]
    assert statuses == [TickStatus.STARTED, TickStatus.SKIPPED, TickStatus.STARTED]


async def test_runs_may_overlap_where_nothing_else_is_asked_for(world: World) -> None:
    await world.create()
    await world.keep(NOON + minutes(60))
    await world.keep(NOON + minutes(120))

    assert len(world.runs) == 2


async def test_an_agent_that_is_gone_fails_ticks_and_pauses_in_the_end(world: World) -> None:
    made = await world.create()
    await world.revoke()
    for hour in range(1, MOST_FAILURES + 3):
        await world.keep(NOON + minutes(60 * hour))

    kept = await world.the(made.id)
    assert (kept.enabled, kept.failures) == (False, MOST_FAILURES)
    assert kept.last_error is not None
    assert kept.last_error.code == "model_not_found"
    assert kept.paused_because == "10 ticks in a row could not begin a run."
    ticks = await world.ticks(made.id)
    assert [view.tick.status for view in ticks] == [TickStatus.FAILED] * MOST_FAILURES
    assert world.runs == []


async def test_a_run_that_begins_ends_the_row_of_failures(world: World) -> None:
    made = await world.create()
    await world.revoke()
    await world.keep(NOON + minutes(60))
    world.store.tables.agents[world.agent.id].status = AgentStatus.PUBLISHED
    world.time += 60
    await world.keep(NOON + minutes(120))

    kept = await world.the(made.id)
    assert (kept.failures, kept.last_error) == (0, None)


async def test_each_tick_asks_the_version_that_is_published_then(world: World) -> None:
    await world.create()
    await world.keep(NOON + minutes(60))
    newer = a_version(world.line)
    async with world.uow(all_of(PROJECT)) as work:
        line = await work.lines.get(world.line.id)
        publish(line, newer)
        newer.events.clear()
        await work.agents.add(newer)
        await work.lines.save(line)
        await work.commit()
    world.time += 60
    await world.keep(NOON + minutes(120))

    assert [run.agent_id for run in world.runs] == [world.agent.id, newer.id]


async def test_a_revoked_key_pauses_what_was_scheduled_with_it(world: World) -> None:
    made = await world.create(await world.give_key())
    await world.keep(NOON + minutes(60))
    await world.revoke_key()
    await world.keep(NOON + minutes(120))

    kept = await world.the(made.id)
    assert (kept.enabled, len(world.runs)) == (False, 1)
    assert kept.paused_because == "The API key that stands behind it is revoked or has expired."


async def test_who_resumes_it_stands_behind_it_from_then_on(world: World) -> None:
    made = await world.create(await world.give_key())
    await world.revoke_key()
    await world.keep(NOON + minutes(60))
    other = await world.give_key("key_2")

    resumed = await world.resume(made.id, other)
    assert (resumed.enabled, resumed.paused_because) == (True, None)
    await world.keep(NOON + minutes(120))
    assert [run.order.caller for run in world.runs] == [other]


async def test_an_admin_who_resumes_it_lends_it_no_rights(world: World) -> None:
    made = await world.create(await world.give_key())
    await world.pause(made.id)
    await world.resume(made.id, ADMIN)
    await world.keep(NOON + minutes(60))

    assert [run.order.caller.key_id for run in world.runs] == ["key_1"]


async def test_one_schedule_that_breaks_does_not_hold_up_the_others(world: World) -> None:
    broken, sound = await world.create(), await world.create()
    world.store.tables.schedules[broken.id] = replace(
        broken, trigger=Cron("@hourly", "Gone/Away"), next_at=NOON
    )
    await world.keep(NOON + minutes(60))

    assert [run.origin for run in world.runs] == [Origin("schedule", sound.id)]
    kept = await world.the(broken.id)
    assert not kept.enabled
    assert "no such time zone" in (kept.paused_because or "")


async def test_schedules_that_can_not_be_decided_are_no_backlog(world: World) -> None:
    broken = await world.create()
    await world.create()

    async def keep(seen: Schedule, *_: object) -> None:
        if seen.id == broken.id:
            raise KeyError("what a newer release wrote")

    world.scheduler._keep = keep  # type: ignore[method-assign,assignment]
    world.now = NOON + minutes(60)

    assert await world.scheduler.turn() == 1


async def test_a_database_that_is_away_decides_nothing(world: World) -> None:
    made = await world.create()
    world.now = NOON + minutes(60)
    resolve = world.catalogue.resolve

    async def away(model: str, caller: Principal) -> Agent:
        raise DatabaseUnavailable

    world.catalogue.resolve = away  # type: ignore[method-assign]
    with pytest.raises(DatabaseUnavailable):
        await world.scheduler.turn()
    assert await world.ticks(made.id) == []

    world.catalogue.resolve = resolve  # type: ignore[method-assign]
    await world.keep(world.now)
    assert len(world.runs) == 1


async def test_what_was_decided_by_another_process_is_not_decided_again(world: World) -> None:
    await world.create()
    world.now = NOON + minutes(60)
    due = await world.book.due(5)
    await world.keep(world.now)

    stale = MemoryScheduleBook(world.store, lambda: world.now)
    stale.due = lambda limit: _given(due)  # type: ignore[method-assign]
    assert await world.ticker(stale).turn() == 1
    assert len(world.runs) == len(world.dispatcher.dispatched) == 1


async def _given(due: Due) -> Due:
    return due


# Who may say so, and what


async def test_the_first_tick_is_the_next_one(world: World) -> None:
    world.now = PRECISE_NOON
    cron = await world.create(timing=Timing(cron="30 7 * * *", timezone="Europe/Berlin"))
    every = await world.create(timing=Timing(every_s=90))

    assert cron.next_at == NOON + minutes(18.5 * 60)
    assert every.trigger == Every(90, NOON)
    assert every.next_at == NOON + minutes(1.5)
    assert await world.queries.ahead(every) == [NOON + n * minutes(1.5) for n in range(1, 6)]


@pytest.mark.parametrize(
    ("timing", "refusal"),
    [
        (Timing(), InvalidValue),
        (Timing(cron="@daily", every_s=60), InvalidValue),
        (Timing(every_s=60, timezone="UTC"), InvalidValue),
        (Timing(every_s=5), InvalidValue),
        (Timing(timezone="UTC"), InvalidValue),
        (Timing(cron="61 * * * *"), InvalidCron),
        (Timing(cron="0 0 31 2 *"), InvalidCron),
        (Timing(cron="@daily", timezone="Mars/Base"), UnknownTimezone),
    ],
)
async def test_a_time_that_makes_no_sense_is_refused(
    world: World, timing: Timing, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        await world.create(timing=timing)
    assert world.store.tables.schedules == {}


async def test_what_can_not_be_called_can_not_be_scheduled(world: World) -> None:
    with pytest.raises(ModelNotFound):
        await world.create(model="other")
    with pytest.raises(ModelNotFound):
        await world.create(Principal(ANN, ProjectId("globex")))
    with pytest.raises(Forbidden):
        await world.create(replace(ANN_HERSELF, limited_to=frozenset({KeyScope.RUNS_READ})))


async def test_somebody_has_so_many_and_no_more(world: World) -> None:
    for _ in range(3):
        await world.create()

    with pytest.raises(TooManySchedules, match="3"):
        await world.create()
    await world.create(BOB_HIMSELF)


async def test_what_is_not_given_stays(world: World) -> None:
    made = await world.create(backfill=Backfill.ONE)
    world.now = NOON + minutes(5)
    changed = await world.change(made.id, order=OrderFields(metadata={"a": 1}))

    assert changed == replace(
        made,
        order=replace(made.order, metadata={"a": 1}, items=[]),
        updated_at=world.now,
        revision=2,
    )


async def test_a_schedule_of_an_agent_that_is_gone_can_still_be_switched_off(
    world: World,
) -> None:
    made = await world.create()
    await world.revoke()

    assert not (await world.change(made.id, enabled=False)).enabled
    with pytest.raises(ModelNotFound):
        await world.change(made.id, order=ORDER)


async def test_another_time_counts_from_now_on(world: World) -> None:
    made = await world.create()
    world.now = NOON + minutes(90)
    changed = await world.change(made.id, timing=Timing(timezone="Asia/Kathmandu"))

    assert changed.trigger == Cron("0 * * * *", "Asia/Kathmandu")
    assert changed.next_at == NOON + minutes(135)
    changed = await world.change(made.id, timing=Timing(every_s=600))
    assert changed.next_at == NOON + minutes(100)


async def test_a_newer_state_is_not_overwritten(world: World) -> None:
    made = await world.create()
    await world.change(made.id, fields=ScheduleFields(name="other"), if_match=made.etag)

    with pytest.raises(StaleVersion):
        await world.change(made.id, fields=ScheduleFields(name="third"), if_match=made.etag)
    with pytest.raises(StaleVersion):
        await handlers.RemoveScheduleHandler(world.desk)(
            RemoveSchedule(ANN_HERSELF, made.id, made.etag)
        )


async def test_ticks_leave_the_etag_as_it_is(world: World) -> None:
    made = await world.create()
    await world.keep(NOON + minutes(60))

    await world.change(made.id, fields=ScheduleFields(name="other"), if_match=made.etag)


async def test_others_neither_see_nor_touch_it(world: World) -> None:
    made = await world.create()

    for doing in (
        world.queries.get(BOB_HIMSELF, made.id),
        world.queries.ticks(BOB_HIMSELF, made.id, limit=5, after=None),
        world.change(made.id, BOB_HIMSELF),
        world.pause(made.id, BOB_HIMSELF),
        world.resume(made.id, BOB_HIMSELF),
        world.run_now(made.id, BOB_HIMSELF),
        handlers.RemoveScheduleHandler(world.desk)(RemoveSchedule(BOB_HIMSELF, made.id)),
    ):
        with pytest.raises(ScheduleNotFound):
            await doing


async def test_an_admin_stops_it_and_does_not_change_what_runs_in_its_owners_name(
    world: World,
) -> None:
    made = await world.create()
    with pytest.raises(Forbidden, match="owner"):
        await world.change(made.id, ADMIN, fields=ScheduleFields(name="x"))

    assert not (await world.pause(made.id, ADMIN)).enabled
    await handlers.RemoveScheduleHandler(world.desk)(RemoveSchedule(ADMIN, made.id))
    actions = [entry.action for entry in world.store.tables.audit.values()]
    assert actions == ["create_schedule", "pause_schedule", "remove_schedule"]


async def test_nothing_is_begun_in_a_pause(world: World) -> None:
    made = await world.create()
    await world.pause(made.id)
    await world.pause(made.id)
    await world.keep(NOON + minutes(600))

    assert await world.ticks(made.id) == []
    resumed = await world.resume(made.id)
    assert resumed.next_at == NOON + minutes(660)
    assert await world.resume(made.id) == resumed


async def test_a_pause_is_made_up_for_where_that_is_asked_for(world: World) -> None:
    made = await world.create(backfill=Backfill.ONE)
    await world.pause(made.id)
    world.now = NOON + minutes(150)
    await world.resume(made.id)
    await world.keep(world.now)

    assert [run.id for run in world.runs] == [run_id_of(made.id, NOON + minutes(120))]


async def test_a_run_out_of_turn_leaves_the_ticks_as_they_are(world: World) -> None:
    made = await world.create()
    await world.pause(made.id)
    view = await world.run_now(made.id)
    await world.run_now(made.id)

    assert (view.tick.manual, view.run_status) == (True, RunStatus.QUEUED)
    assert world.runs[0].id == view.tick.id
    assert [each.tick.manual for each in await world.ticks(made.id)] == [True, True]
    assert len(world.dispatcher.dispatched) == 2
    assert (await world.the(made.id)).next_at == made.next_at


async def test_an_admin_runs_it_in_its_owners_name_while_the_owners_key_counts(
    world: World,
) -> None:
    made = await world.create(await world.give_key())
    await world.run_now(made.id, ADMIN)
    assert world.runs[0].order.caller.user_id == ANN

    await world.revoke_key()
    with pytest.raises(Forbidden, match="revoked"):
        await world.run_now(made.id, ADMIN)
    await world.run_now(made.id)
    assert len(world.runs) == 2


async def test_a_queue_that_is_full_takes_no_further_run(world: World) -> None:
    made = await world.create()
    for _ in range(5):
        await world.run_now(made.id)
    with pytest.raises(TooManyQueuedRuns):
        await world.run_now(made.id)
    await world.keep(NOON + minutes(60))

    kept = await world.the(made.id)
    assert kept.last_error is not None
    assert (kept.last_error.code, kept.failures) == ("too_many_queued_runs", 1)
    assert len(world.runs) == 5


@pytest.mark.parametrize("missing", [KeyScope.MODELS, KeyScope.RUNS_READ])
async def test_a_narrow_key_does_what_it_is_for(world: World, missing: KeyScope) -> None:
    made = await world.create()
    narrow = replace(ANN_HERSELF, limited_to=frozenset(KeyScope) - {missing})
    reads: list[Callable[[], Awaitable[object]]] = [
        lambda: world.queries.get(narrow, made.id),
        lambda: world.queries.ticks(narrow, made.id, limit=5, after=None),
    ]
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: world.change(made.id, narrow),
        lambda: world.pause(made.id, narrow),
        lambda: world.resume(made.id, narrow),
        lambda: world.run_now(made.id, narrow),
    ]

    for doing in writes if missing is KeyScope.MODELS else reads:
        with pytest.raises(Forbidden):
            await doing()
    for doing in reads if missing is KeyScope.MODELS else writes:
        await doing()
