"""When a schedule is due, and what becomes of ticks that can't be kept."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from runtime.domain.errors import InvalidCron, InvalidValue

MAX_EXPRESSION = 200
MIN_EVERY_S = 10
MAX_EVERY_S = 366 * 24 * 3_600
MAX_BACKFILL = 100
CRON_FIELDS = {
    "minute": "0, 30, */15 or 0-29",
    "hour": "7, 9-17 or */2",
    "day-of-month": "1, 15, 1-7 or L for the last day",
    "month": "1, 1-6 or jan-jun",
    "day-of-week": "mon, 1-5, mon-fri, sun#1 for the first or 5L for the last friday",
}
"""In their order, each with what may stand there."""
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Backfill(StrEnum):
    """What becomes of ticks that nobody was there to keep."""

    SKIP = "skip"
    ONE = "one"
    """The newest of them is made up for."""
    ALL = "all"
    """Each of the newest is made up for, as many as the schedule says."""


class Overlap(StrEnum):
    """What becomes of a tick while a run of the schedule goes on."""

    ALLOW = "allow"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields or a macro, as the caller wrote them, on the clocks of a time zone."""

    expression: str
    timezone: str = "UTC"

    @property
    def fields(self) -> str:
        """Raises InvalidCron unless there are five."""
        text = " ".join(self.expression.split())
        if text.startswith("@"):
            if text.lower() not in _MACROS:
                raise InvalidCron(f"is none of {', '.join(_MACROS)}.")
            return _MACROS[text.lower()]
        count = len(text.split())
        if count != len(CRON_FIELDS):
            raise InvalidCron(
                f"has {count} field{'' if count == 1 else 's'}, not five: {', '.join(CRON_FIELDS)}."
            )
        return text


@dataclass(frozen=True, slots=True)
class Every:
    """`anchor` and each whole number of intervals after it."""

    seconds: int
    anchor: datetime

    def __post_init__(self) -> None:
        """Raises InvalidValue."""
        if not MIN_EVERY_S <= self.seconds <= MAX_EVERY_S:
            raise InvalidValue(
                f"An interval is {MIN_EVERY_S} to {MAX_EVERY_S} seconds.", param="every_s"
            )

    def after(self, at: datetime) -> datetime:
        return self._tick(max(0, self._passed(at) + 1))

    def latest(self, at: datetime) -> datetime | None:
        """The last one until then, `at` itself included."""
        passed = self._passed(at)
        return self._tick(passed) if passed >= 0 else None

    def _passed(self, at: datetime) -> int:
        return math.floor((at - self.anchor) / timedelta(seconds=self.seconds))

    def _tick(self, number: int) -> datetime:
        return self.anchor + number * timedelta(seconds=self.seconds)


Trigger = Cron | Every


def whole_second(at: datetime) -> datetime:
    return _EPOCH + (at - _EPOCH) // timedelta(seconds=1) * timedelta(seconds=1)
