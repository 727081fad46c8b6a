"""Ticks of schedules: cron as Debian's, by cronsim."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from runtime.domain.errors import InvalidCron, UnknownTimezone
from runtime.domain.services.calendar import Calendar
from runtime.domain.value_objects.schedules import CRON_FIELDS, Cron, Every, Trigger

_NEAR = timedelta(hours=6)
"""Clocks are put forward or back by less."""
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_LAST_YEAR = datetime.max.year - 60


class CronCalendar(Calendar):
    def after(self, trigger: Trigger, at: datetime) -> datetime | None:
        if isinstance(trigger, Every):
            return trigger.after(at)
        # Where clocks are put back, local times of the second pass lead to ticks of the first.
        ticks = _ticks(trigger, _local(trigger, at))
        return next((tick for tick in ticks if tick > at), None)

    def latest(self, trigger: Trigger, at: datetime) -> datetime | None:
        if isinstance(trigger, Every):
            return trigger.latest(at)
        found = _before(trigger, at)
        if found is None or not (_clocks_change(trigger, at) or _clocks_change(trigger, found)):
            return found
        # There the way back does not meet the same ticks; the way forward from before does.
        start = min(found, at - _DAY)
        for tick in _ticks(trigger, _local(trigger, start)):
            if tick > at:
                break
            found = max(found, tick) if found <= at else tick
        return found


def _before(cron: Cron, at: datetime) -> datetime | None:
    start = _local(cron, at).replace(microsecond=0) + _SECOND
    return next((tick for tick in _ticks(cron, start, back=True) if tick <= at), None)


def _clocks_change(cron: Cron, at: datetime) -> bool:
    """Near that moment."""
    local = _local(cron, at)
    return (local - _NEAR).utcoffset() != (local + _NEAR).utcoffset()


def _ticks(cron: Cron, start: datetime, *, back: bool = False) -> Iterator[datetime]:
    from cronsim import CronSim, CronSimError

    fields = cron.fields
    try:
        found = CronSim(fields, start, reverse=back)
    except (CronSimError, AssertionError, ValueError) as error:
        raise _explained(str(error)) from error
    return (tick.astimezone(UTC) for tick in found)


def _explained(problem: str) -> InvalidCron:
    field = problem.removeprefix("Bad ")
    if field not in CRON_FIELDS:
        return InvalidCron("can't be read.")
    return InvalidCron(
        f"has something in its {field} that can't be there: it takes * or such as "
        f"{CRON_FIELDS[field]}.",
        field=field,
    )


def _local(cron: Cron, at: datetime) -> datetime:
    """Raises UnknownTimezone."""
    zone = _zone(cron.timezone)
    if at.year > _LAST_YEAR:
        raise InvalidCron("is asked for too far ahead.")
    return at.astimezone(UTC if cron.timezone == "UTC" else zone)


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    # A name may lead to a folder, a file of another kind, or out of where the zones are.
    except (OSError, ValueError, KeyError) as error:
        raise UnknownTimezone from error
