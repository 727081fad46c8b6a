"""Commands that make, change and remove schedules: each one transaction, with its audit row."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from runtime.application.commands.runs import ExecuteAgent, SessionRef
from runtime.application.commands.schedules import (
    ChangeSchedule,
    CreateSchedule,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    RunScheduleNow,
    Timing,
)
from runtime.application.services.auditing import rule_entry
from runtime.application.services.scheduler import key_is_good
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.durable import RunOrder
from runtime.domain.entities.runs import RunStatus
from runtime.domain.entities.schedules import Schedule, ScheduleTick, TickStatus, TickView
from runtime.domain.errors import (
    Forbidden,
    InvalidCron,
    InvalidValue,
    StaleVersion,
    TooManyQueuedRuns,
)
from runtime.domain.repositories.schedules import ScheduleBook
from runtime.domain.services.calendar import Calendar
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import ScheduleId, new_run_id, new_schedule_id
from runtime.domain.value_objects.schedules import Backfill, Cron, Every, Trigger, whole_second


class Agents(Protocol):
    async def resolve(self, command: ExecuteAgent) -> Agent: ...

    async def check(self, agent: Agent, command: ExecuteAgent) -> None: ...


@dataclass(frozen=True)
class ScheduleDesk:
    """What the commands share."""

    uow: UnitOfWorkFactory
    book: ScheduleBook
    calendar: Calendar
    agents: Agents
    most: int
    """Schedules of one person."""
    most_queued: int
    """Runs of one person that wait to begin."""

    async def agent(self, model: str, order: RunOrder) -> Agent:
        """That is to be run. Raises what a call of it raises for its options and limits."""
        asked = ExecuteAgent(
            caller=order.caller,
            model=model,
            messages=order.messages,
            options=order.options,
            session=SessionRef(name=order.session) if order.session else None,
            metadata=order.metadata,
        )
        agent = await self.agents.resolve(asked)
        await self.agents.check(agent, asked)
        return agent

    def first_tick(self, trigger: Trigger, now: datetime) -> datetime:
        """Raises InvalidCron, UnknownTimezone."""
        first = self.calendar.after(trigger, now)
        if first is None:
            raise InvalidCron("names a day that never comes.")
        return first

    def trigger(self, timing: Timing, now: datetime, before: Trigger | None = None) -> Trigger:
        """Raises InvalidValue."""
        if (timing.cron is None) == (timing.every_s is None):
            if timing.cron is not None:
                raise InvalidValue("Send cron or every_s, not both.", param="every_s")
            if timing.timezone is None or not isinstance(before, Cron):
                raise InvalidValue(
                    "Send cron, such as '0 7 * * mon-fri', or every_s, in seconds.", param="cron"
                )
        if timing.every_s is not None:
            if timing.timezone is not None:
                raise InvalidValue("A time zone goes with cron.", param="timezone")
            return Every(timing.every_s, whole_second(now))
        zone = before.timezone if isinstance(before, Cron) else "UTC"
        expression = timing.cron or (before.expression if isinstance(before, Cron) else "")
        return Cron(expression, timing.timezone or zone)


@dataclass(frozen=True)
class CreateScheduleHandler:
    desk: ScheduleDesk

    async def __call__(self, command: CreateSchedule) -> Schedule:
        """Raises what a call of the agent raises for its options and limits, InvalidValue,
        InvalidCron, UnknownTimezone, TooManySchedules."""
        desk, actor = self.desk, command.actor
        order = RunOrder(caller=actor, **command.order)
        await desk.agent(command.fields["model"], order)
        now = await desk.book.now()
        trigger = desk.trigger(command.timing, now)
        schedule = Schedule(
            id=new_schedule_id(),
            project_id=actor.project_id,
            owner_id=actor.user_id,
            order=order,
            trigger=trigger,
            enabled=command.enabled,
            next_at=desk.first_tick(trigger, now),
            created_at=now,
            updated_at=now,
            **command.fields,
        )
        async with desk.uow(actor.scope) as work:
            await work.schedules.add(schedule, desk.most)
            await _record(work, "create_schedule", schedule, actor, now)
            await work.commit()
        return schedule


@dataclass(frozen=True)
class ChangeScheduleHandler:
    desk: ScheduleDesk

    async def __call__(self, command: ChangeSchedule) -> Schedule:
        """Raises as CreateSchedule, and ScheduleNotFound, StaleVersion, ConcurrentChange."""
        desk, actor = self.desk, command.actor
        actor.require_scope(KeyScope.MODELS)
        now = await desk.book.now()
        seen = await _read(desk.uow, actor, command.id, command.if_match)
        _check_owner(seen, actor)
        became = replace(
            seen,
            order=replace(seen.order, caller=actor, **command.order),
            updated_at=now,
            **command.fields,
        )
        if command.order or "model" in command.fields:
            await desk.agent(became.model, became.order)
        if command.timing != Timing():
            trigger = desk.trigger(command.timing, now, seen.trigger)
            became = replace(became, trigger=trigger, next_at=desk.first_tick(trigger, now))
        if command.enabled is not None and command.enabled != seen.enabled:
            became = _resumed(desk, became, now) if command.enabled else became.paused()
        return await _saved(desk.uow, "change_schedule", seen, became, actor, now)


@dataclass(frozen=True)
class RemoveScheduleHandler:
    desk: ScheduleDesk

    async def __call__(self, command: RemoveSchedule) -> Schedule:
        """Its runs go on. Raises Forbidden, ScheduleNotFound, StaleVersion, ConcurrentChange."""
        actor = command.actor
        actor.require_scope(KeyScope.MODELS)
        now = await self.desk.book.now()
        async with self.desk.uow(actor.scope) as work:
            schedule = await work.schedules.get(command.id)
            _check_etag(schedule, command.if_match)
            await work.schedules.remove(schedule)
            await _record(work, "remove_schedule", schedule, actor, now)
            await work.commit()
        return schedule


@dataclass(frozen=True)
class PauseScheduleHandler:
    desk: ScheduleDesk

    async def __call__(self, command: PauseSchedule) -> Schedule:
        """Again is no error. Raises Forbidden, ScheduleNotFound, ConcurrentChange."""
        actor = command.actor
        actor.require_scope(KeyScope.MODELS)
        now = await self.desk.book.now()
        seen = await _read(self.desk.uow, actor, command.id)
        if not seen.enabled:
            return seen
        became = replace(seen.paused(), updated_at=now)
        return await _saved(self.desk.uow, "pause_schedule", seen, became, actor, now)


@dataclass(frozen=True)
class ResumeScheduleHandler:
    desk: ScheduleDesk

    async def __call__(self, command: ResumeSchedule) -> Schedule:
        """Again is no error. Raises Forbidden, ScheduleNotFound, ConcurrentChange."""
        actor = command.actor
        actor.require_scope(KeyScope.MODELS)
        now = await self.desk.book.now()
        seen = await _read(self.desk.uow, actor, command.id)
        if seen.enabled:
            return seen
        became = replace(_resumed(self.desk, seen, now), updated_at=now)
        if actor.user_id == seen.owner_id:
            became = replace(became, order=replace(seen.order, caller=actor))
        return await _saved(self.desk.uow, "resume_schedule", seen, became, actor, now)


@dataclass(frozen=True)
class RunScheduleNowHandler:
    desk: ScheduleDesk
    dispatcher: RunDispatcher

    async def __call__(self, command: RunScheduleNow) -> TickView:
        """Raises Forbidden, ScheduleNotFound, TooManyQueuedRuns, and what a call raises."""
        desk, actor = self.desk, command.actor
        actor.require_scope(KeyScope.MODELS)
        now = await desk.book.now()
        schedule = await _read(desk.uow, actor, command.id)
        order = schedule.order
        if actor.user_id == schedule.owner_id:
            order = replace(order, caller=actor)
        agent = await desk.agent(schedule.model, order)
        run = schedule.run(new_run_id(), agent, order, now)
        tick = replace(
            ScheduleTick.of(schedule, now, TickStatus.STARTED, now), id=run.id, manual=True
        )
        async with desk.uow(order.caller.scope) as work:
            if order is schedule.order and not await key_is_good(work, schedule, now):
                raise Forbidden("The API key behind this schedule is revoked or has expired.")
            if await work.durable.queued() >= desk.most_queued:
                raise TooManyQueuedRuns(desk.most_queued)
            await work.schedules.record(tick)
            await work.durable.add(run)
            await work.commit()
        await self.dispatcher.dispatch(run)
        return TickView(tick, RunStatus.QUEUED, None)


def _resumed(desk: ScheduleDesk, schedule: Schedule, now: datetime) -> Schedule:
    """From now on; what is to be made up for begins where the pause did."""
    next_at = schedule.next_at
    if schedule.backfill is Backfill.SKIP or next_at is None:
        next_at = desk.first_tick(schedule.trigger, now)
    return replace(schedule, enabled=True, paused_because=None, failures=0, next_at=next_at)


async def _read(
    uow: UnitOfWorkFactory, actor: Principal, id: ScheduleId, if_match: str | None = None
) -> Schedule:
    """Raises ScheduleNotFound, StaleVersion."""
    async with uow(actor.scope) as work:
        schedule = await work.schedules.get(id)
    _check_etag(schedule, if_match)
    return schedule


async def _saved(
    uow: UnitOfWorkFactory,
    action: str,
    seen: Schedule,
    became: Schedule,
    actor: Principal,
    now: datetime,
) -> Schedule:
    async with uow(actor.scope) as work:
        saved = await work.schedules.save(seen, became)
        await _record(work, action, saved, actor, now)
        await work.commit()
    return saved


def _check_owner(schedule: Schedule, actor: Principal) -> None:
    """Raises Forbidden: what runs in somebody's name is theirs to say."""
    if schedule.owner_id != actor.user_id:
        raise Forbidden("Only its owner changes a schedule; an admin may pause or delete it.")


def _check_etag(schedule: Schedule, if_match: str | None) -> None:
    """Raises StaleVersion."""
    if if_match not in (None, "*", schedule.etag):
        raise StaleVersion(schedule.etag, "this schedule")


async def _record(
    work: UnitOfWork, action: str, schedule: Schedule, actor: Principal, at: datetime
) -> None:
    detail = {"name": schedule.name, "model": schedule.model, "enabled": schedule.enabled}
    await work.audit.add(rule_entry(action, schedule.id, schedule.owner_id, actor, at, detail))
