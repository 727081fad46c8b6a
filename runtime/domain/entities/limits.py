from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from runtime.domain.entities.runs import Run
from runtime.domain.events.base import Event
from runtime.domain.events.limits import RulesChanged
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import ProjectId, UserId
from runtime.domain.value_objects.limits import Limits, Price, Subject, subjects_of


def _changed() -> list[Event]:
    return [RulesChanged()]


@dataclass(slots=True, kw_only=True)
class LimitRule:
    """What an admin allows a key, a project or an agent."""

    subject: Subject
    owner_id: UserId
    """Whose key or agent it is; of a project's rule, who set it."""
    limits: Limits
    updated_at: datetime
    updated_by: UserId
    events: list[Event] = field(default_factory=_changed, repr=False, compare=False)

    @property
    def project_id(self) -> ProjectId:
        return self.subject.project_id


@dataclass(slots=True, kw_only=True)
class PriceRule:
    model: str
    """`provider/name`; a `*` stands for anything."""
    project_id: ProjectId
    owner_id: UserId
    """Who set it."""
    price: Price
    updated_at: datetime
    events: list[Event] = field(default_factory=_changed, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDay:
    """What a key, a project or an agent used on one day, UTC."""

    subject: Subject
    day: date
    runs: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    unpriced_tokens: int
    """Of runs in which some model had no price: their cost is not in `cost`."""
    cost: Decimal
    """In USD."""

    def __add__(self, other: "UsageDay") -> "UsageDay":
        return UsageDay(
            subject=self.subject,
            day=self.day,
            runs=self.runs + other.runs,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            unpriced_tokens=self.unpriced_tokens + other.unpriced_tokens,
            cost=self.cost + other.cost,
        )


def used_by(runs: Iterable[Run]) -> list[UsageDay]:
    """Sums over the runs, in an order that no two writers wait for each other in."""
    found: dict[tuple[Subject, date], UsageDay] = {}
    for run in runs:
        day = run.ended_at.astimezone(UTC).date()
        for subject in subjects_of(run.project_id, run.key_id, run.line_id):
            used = usage_of(subject, day, run.usage, run.cost, runs=1)
            known = found.get((subject, day))
            found[subject, day] = known + used if known else used
    return sorted(found.values(), key=lambda used: (used.subject.project_id, str(used.subject)))


def usage_of(
    subject: Subject, day: date, usage: Usage, cost: Decimal | None, *, runs: int
) -> UsageDay:
    return UsageDay(
        subject=subject,
        day=day,
        runs=runs,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        unpriced_tokens=usage.total_tokens if cost is None else 0,
        cost=cost or Decimal(0),
    )
