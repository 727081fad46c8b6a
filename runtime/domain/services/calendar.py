from datetime import datetime
from typing import Protocol

from runtime.domain.value_objects.schedules import Trigger


class Calendar(Protocol):
    """When triggers are due, in UTC. Both raise InvalidCron and UnknownTimezone.

    A cron expression with a fixed minute and a fixed hour is kept once on every day that it names:
    at the end of the hour that is left out where clocks are put forward, the first time where they
    are put back. One with a star in either follows the clock.
    """

    def after(self, trigger: Trigger, at: datetime) -> datetime | None:
        """The first tick after that moment; None when there is none in the next 50 years."""

    def latest(self, trigger: Trigger, at: datetime) -> datetime | None:
        """The last tick until then, `at` itself included."""
