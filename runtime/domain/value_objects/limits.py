"""How much a key, a project or an agent may use, and what that costs."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum

from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import KeyId, LineId, ProjectId

_PER_MILLION = Decimal(1_000_000)
_NANO = Decimal("1e-9")


class LimitScope(StrEnum):
    KEY = "key"
    PROJECT = "project"
    AGENT = "agent"
    """A line: all versions of an agent together."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is limited, and what is charged."""

    project_id: ProjectId
    scope: LimitScope
    id: str

    def __str__(self) -> str:
        """Unique within its project."""
        return f"{self.scope}:{self.id}"

    @classmethod
    def parse(cls, project_id: ProjectId, text: str) -> "Subject":
        scope, _, id = text.partition(":")
        return cls(project_id, LimitScope(scope), id)


def subjects_of(
    project_id: ProjectId, key_id: KeyId | None, line_id: LineId | None
) -> tuple[Subject, ...]:
    """Everything that a call counts for."""
    found = [Subject(project_id, LimitScope.PROJECT, project_id)]
    if key_id is not None:
        found.append(Subject(project_id, LimitScope.KEY, key_id))
    if line_id is not None:
        found.append(Subject(project_id, LimitScope.AGENT, line_id))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Rates:
    """None: as much as comes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_runs: int | None = None

    def __bool__(self) -> bool:
        return self != _UNLIMITED

    def over(self, default: "Rates") -> "Rates":
        """These, with the defaults where they say nothing."""
        return Rates(
            _first(self.requests_per_minute, default.requests_per_minute),
            _first(self.tokens_per_minute, default.tokens_per_minute),
            _first(self.concurrent_runs, default.concurrent_runs),
        )


class Period(StrEnum):
    """Of a budget, in UTC."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"

    def begins(self, today: date) -> date | None:
        """None: the beginning of time."""
        match self:
            case Period.DAY:
                return today
            case Period.MONTH:
                return today.replace(day=1)
        return None

    def ends(self, today: date) -> datetime | None:
        match self:
            case Period.DAY:
                next_day = today + timedelta(days=1)
            case Period.MONTH:
                next_day = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
            case _:
                return None
        return datetime.combine(next_day, time(), UTC)


@dataclass(frozen=True, slots=True)
class Spent:
    tokens: int = 0
    cost: Decimal = Decimal(0)
    """In USD."""

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.tokens + other.tokens, self.cost + other.cost)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.tokens - other.tokens, self.cost - other.cost)


NOTHING_SPENT = Spent()


@dataclass(frozen=True, slots=True)
class Budget:
    tokens: int | None = None
    cost: Decimal | None = None
    """In USD."""
    period: Period = Period.MONTH

    def used_up(self, spent: Spent) -> bool:
        return (self.tokens is not None and spent.tokens >= self.tokens) or (
            self.cost is not None and spent.cost >= self.cost
        )

    def overdrawn(self, spent: Spent) -> bool:
        return (self.tokens is not None and spent.tokens > self.tokens) or (
            self.cost is not None and spent.cost > self.cost
        )


@dataclass(frozen=True, slots=True)
class Limits:
    rates: Rates = Rates()
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """In USD for a million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal

    def of(self, usage: Usage) -> Decimal:
        fresh = max(usage.input_tokens - usage.cached_tokens, 0)
        cached = min(usage.cached_tokens, usage.input_tokens)
        sum = fresh * self.input + cached * self.cached_input + usage.output_tokens * self.output
        return sum / _PER_MILLION


def rounded(cost: Decimal) -> Decimal:
    """To what is stored: a billionth of a dollar."""
    return cost.quantize(_NANO)


def _first(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


_UNLIMITED = Rates()
