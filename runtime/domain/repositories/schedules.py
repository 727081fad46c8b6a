from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runtime.domain.entities.schedules import Schedule, ScheduleTick, TickView
from runtime.domain.value_objects.ids import ScheduleId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True, slots=True)
class ScheduleFilter:
    model: str | None = None
    """As the schedule names it."""
    enabled: bool | None = None


class ScheduleRepository(Protocol):
    """Schedules of the scope's project; without `administers`, one's own."""

    async def add(self, schedule: Schedule, most: int) -> None:
        """Raises TooManySchedules when the owner has `most` already, counted exactly."""

    async def get(self, id: ScheduleId) -> Schedule:
        """Raises ScheduleNotFound."""

    async def save(self, seen: Schedule, became: Schedule) -> Schedule:
        """Write what differs, as the next revision; what ticks changed meanwhile stays. Raises
        ConcurrentChange, ScheduleNotFound."""

    async def remove(self, schedule: Schedule) -> None:
        """Its ticks go with it; its runs stay. Raises as `save`."""

    async def page(self, where: ScheduleFilter, *, limit: int, after: str | None) -> Page[Schedule]:
        """Newest first. Raises InvalidValue for a cursor that is none of this list's."""

    async def advance(self, seen: Schedule, became: Schedule) -> bool:
        """Write what differs. False when it is paused, was changed, or another process
        decided the tick at `seen.next_at`."""

    async def record(self, tick: ScheduleTick) -> bool:
        """False when that tick is on record."""

    async def busy(self, id: ScheduleId) -> bool:
        """Whether some run of the schedule goes on."""

    async def ticks(self, id: ScheduleId, *, limit: int, after: str | None) -> Page[TickView]:
        """The newest first. Raises as `page`."""


@dataclass(frozen=True, slots=True)
class Due:
    now: datetime
    schedules: Sequence[Schedule]


class ScheduleBook(Protocol):
    """The schedules of every project, outside a caller's transaction. Every call raises
    DatabaseUnavailable."""

    async def now(self) -> datetime:
        """On the clock that all processes share."""

    async def due(self, limit: int) -> Due:
        """Those with a tick that is not decided, the longest waiting first."""
