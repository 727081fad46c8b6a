from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from runtime.domain.value_objects.chat import GenerationOptions, Message
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import ScheduleId
from runtime.domain.value_objects.schedules import Backfill, Overlap


@dataclass(frozen=True, slots=True)
class Timing:
    """As given: a cron expression with its zone, or an interval."""

    cron: str | None = None
    timezone: str | None = None
    every_s: int | None = None


class OrderFields(TypedDict, total=False):
    """Of what is run; what is left out stays as it is."""

    messages: Sequence[Message]
    options: GenerationOptions
    session: str | None
    metadata: Mapping[str, object]


class ScheduleFields(TypedDict, total=False):
    name: str
    model: str
    backfill: Backfill
    max_backfill: int
    overlap: Overlap
    priority: int
    deadline_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSchedule:
    actor: Principal
    timing: Timing
    order: OrderFields
    fields: ScheduleFields
    """With a name and a model."""
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSchedule:
    actor: Principal
    id: ScheduleId
    timing: Timing = field(default_factory=Timing)
    """Nothing given: it stays."""
    order: OrderFields = field(default_factory=OrderFields)
    fields: ScheduleFields = field(default_factory=ScheduleFields)
    enabled: bool | None = None
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class RemoveSchedule:
    actor: Principal
    id: ScheduleId
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class PauseSchedule:
    actor: Principal
    id: ScheduleId


@dataclass(frozen=True, slots=True)
class ResumeSchedule:
    actor: Principal
    id: ScheduleId


@dataclass(frozen=True, slots=True)
class RunScheduleNow:
    """One run out of turn; the ticks stay as they are."""

    actor: Principal
    id: ScheduleId
