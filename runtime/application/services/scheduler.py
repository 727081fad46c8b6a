"""Begins the runs of schedules, on every process that runs some."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from runtime.application.services.catalogue import AgentCatalogue
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.durable import DurableRun, RunProblem
from runtime.domain.entities.schedules import Schedule, ScheduleTick, TickStatus
from runtime.domain.errors import DatabaseUnavailable, DomainError, KeyNotFound, TooManyQueuedRuns
from runtime.domain.repositories.schedules import ScheduleBook
from runtime.domain.services.calendar import Calendar
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.schedules import Backfill, Overlap

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
AT_ONCE = 50
LATE = timedelta(seconds=60)
"""By how much a tick may be kept late before it counts as missed: a restart takes less."""
_KEY_GONE = "The API key that stands behind it is revoked or has expired."
_BUSY = RunProblem("overlap", "A run of the schedule went on.")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about the ticks of a schedule that are due."""

    tick: datetime | None
    """To be kept now."""
    missed: datetime | None
    """The first that is left out; it stands for those up to the one that is kept."""
    next_at: datetime | None


def planned(schedule: Schedule, now: datetime, calendar: Calendar) -> Plan:
    """Raises InvalidCron, UnknownTimezone."""
    trigger, first = schedule.trigger, schedule.next_at
    if first is None or first > now:
        return Plan(None, None, first)
    newest = max(calendar.latest(trigger, now) or first, first)
    tick: datetime | None
    if schedule.backfill is Backfill.ALL:
        tick, next_at = _oldest_kept(schedule, first, newest, calendar)
    else:
        kept = schedule.backfill is Backfill.ONE or now - newest <= LATE
        tick, next_at = (newest if kept else None), None
    next_at = next_at or calendar.after(trigger, max(newest, now))
    return Plan(tick, None if tick == first else first, next_at)


def _oldest_kept(
    schedule: Schedule, first: datetime, newest: datetime, calendar: Calendar
) -> tuple[datetime, datetime | None]:
    """With the one after it, where that is due as well."""
    tick = newest
    then: datetime | None = None
    for _ in range(schedule.max_backfill - 1):
        before = calendar.latest(schedule.trigger, tick - timedelta(microseconds=1))
        if before is None or before < first:
            break
        tick, then = before, tick
    return tick, then


class Scheduler:
    """Each tick is decided in one transaction, which only one process can commit: it moves the
    schedule on, writes down the tick, and adds the run, whose id is the tick's. A process that is
    killed before has decided nothing, one that is killed after has left a queued run."""

    def __init__(
        self,
        book: ScheduleBook,
        uow: UnitOfWorkFactory,
        catalogue: AgentCatalogue,
        calendar: Calendar,
        dispatcher: RunDispatcher,
        most_queued: int,
    ) -> None:
        """`most_queued`: runs of one person that wait to begin."""
        self._book = book
        self._uow = uow
        self._catalogue = catalogue
        self._calendar = calendar
        self._dispatcher = dispatcher
        self._most_queued = most_queued
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_time(), name="scheduler")

    async def stop(self) -> None:
        """What was committed and not dispatched, the reconciler brings."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def turn(self) -> int:
        """Decide one tick of each schedule that is due; of how many it could be done. Raises
        DatabaseUnavailable."""
        due, decided = await self._book.due(AT_ONCE), 0
        for schedule in due.schedules:
            try:
                await self._decide(schedule, due.now)
                decided += 1
            except DatabaseUnavailable:
                raise
            # One schedule that can't be read must not hold up the others.
            except Exception:
                logger.exception("schedule %s could not be kept", schedule.id)
        return decided

    async def _keep_time(self) -> None:
        while True:
            decided = 0
            try:
                decided = await self.turn()
            except DatabaseUnavailable:
                logger.warning("schedules wait: the database is away")
            # The keeper outlives whatever is wrong with one turn.
            except Exception:
                logger.exception("schedules could not be looked at")
            # Not while there is a backlog.
            if decided < AT_ONCE:
                await asyncio.sleep(LOOK_EVERY_S)

    async def _decide(self, seen: Schedule, now: datetime) -> None:
        try:
            plan = planned(seen, now, self._calendar)
        except DomainError as error:  # The zone is gone from this machine, for example.
            await self._pause(seen, str(error))
            return
        try:
            agent = await self._agent(seen) if plan.tick else None
        except DatabaseUnavailable:
            raise
        except DomainError as error:
            await self._keep(seen, plan, now, RunProblem(error.code, str(error)))
        else:
            await self._keep(seen, plan, now, agent)

    async def _agent(self, schedule: Schedule) -> Agent:
        """As it is now. Raises what AgentCatalogue raises."""
        return await self._catalogue.resolve(schedule.model, schedule.order.caller)

    async def _pause(self, seen: Schedule, because: str) -> None:
        async with self._uow(seen.order.caller.scope) as work:
            await work.schedules.advance(seen, seen.paused(because))
            await work.commit()

    async def _keep(
        self, seen: Schedule, plan: Plan, now: datetime, found: Agent | RunProblem | None
    ) -> None:
        run: DurableRun | None = None
        async with self._uow(seen.order.caller.scope) as work:
            if not await key_is_good(work, seen, now):
                became, ticks = seen.paused(_KEY_GONE), []
            else:
                ticks = await self._ticks(work, seen, plan, now, found)
                became = replace(seen, next_at=plan.next_at)
                for tick in ticks:
                    became = became.ticked(tick)
            if not await work.schedules.advance(seen, became):
                return  # Another process was first.
            for tick in ticks:
                new = await work.schedules.record(tick)
                if new and tick.status is TickStatus.STARTED and isinstance(found, Agent):
                    run = seen.run(tick.id, found, seen.order, now)
                    await work.durable.add(run)
            await work.commit()
        if run is not None:
            await self._dispatcher.dispatch(run)

    async def _ticks(
        self,
        work: UnitOfWork,
        seen: Schedule,
        plan: Plan,
        now: datetime,
        found: Agent | RunProblem | None,
    ) -> list[ScheduleTick]:
        ticks = []
        if plan.missed is not None:
            until = f" Nor those after it until {plan.tick.isoformat()}." if plan.tick else ""
            problem = RunProblem("missed", f"No process was there to keep it.{until}")
            ticks.append(ScheduleTick.of(seen, plan.missed, TickStatus.MISSED, now, problem))
        if plan.tick is None:
            return ticks
        if isinstance(found, RunProblem):
            ticks.append(ScheduleTick.of(seen, plan.tick, TickStatus.FAILED, now, found))
        elif seen.overlap is Overlap.SKIP and await work.schedules.busy(seen.id):
            ticks.append(ScheduleTick.of(seen, plan.tick, TickStatus.SKIPPED, now, _BUSY))
        elif await work.durable.queued() >= self._most_queued:
            full = TooManyQueuedRuns(self._most_queued)
            problem = RunProblem(full.code, str(full))
            ticks.append(ScheduleTick.of(seen, plan.tick, TickStatus.FAILED, now, problem))
        else:
            ticks.append(ScheduleTick.of(seen, plan.tick, TickStatus.STARTED, now))
        return ticks


async def key_is_good(work: UnitOfWork, schedule: Schedule, now: datetime) -> bool:
    """Whether the API key that stands behind the schedule, if one does, still counts."""
    id = schedule.order.caller.key_id
    if id is None:
        return True
    try:
        return (await work.keys.get(id)).live_at(now)
    except KeyNotFound:
        return False
