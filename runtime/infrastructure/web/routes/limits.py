from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from runtime.application.commands.limits import RemoveLimits, SetLimits
from runtime.application.handlers.limits import RemoveLimitsHandler, SetLimitsHandler
from runtime.application.queries.limits import LimitQueries, LimitState
from runtime.domain.entities.limits import UsageDay
from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.limits import Budget, Limits, LimitScope, Period, Rates, rounded
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of

router = APIRouter(
    prefix="/v1", tags=["Limits"], route_class=StrictRoute, responses=PLATFORM_ERRORS
)
EXAMPLE: dict[str, Any] = {
    "requests_per_minute": 60,
    "tokens_per_minute": 100_000,
    "concurrent_runs": 5,
    "budget": {"cost_usd": 25, "period": "month"},
}
MOST = 10**12
MOST_USD = 10**9
Queries = Annotated[LimitQueries, provided(lambda c: c.limit_queries())]
Id = Annotated[
    str,
    Path(
        max_length=256,
        description="Of a key, a project or an agent; an agent's may be its slug, its line's id or "
        "that of a version: the limits are those of the line.",
    ),
]


def _as_written(value: object) -> object:
    """pydantic alone takes a number for seconds since the epoch."""
    if isinstance(value, str) and "-" not in value:
        raise ValueError("a day is written YYYY-MM-DD")
    return value


Day = Annotated[date, BeforeValidator(_as_written)]


class BudgetIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tokens: int | None = Field(default=None, ge=0, le=MOST)
    cost_usd: float | None = Field(default=None, ge=0, le=MOST_USD)
    period: Literal["day", "month", "total"] = Field(
        default="month", description="Of the calendar, in UTC."
    )

    def budget(self) -> Budget:
        """Raises InvalidValue."""
        if self.tokens is None and self.cost_usd is None:
            raise InvalidValue("A budget is of tokens, of cost_usd, or of both.", param="budget")
        cost = None if self.cost_usd is None else usd(self.cost_usd)
        return Budget(self.tokens, cost, Period(self.period))


class LimitsPut(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE]}
    )

    requests_per_minute: int | None = Field(default=None, ge=1, le=MOST)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=MOST)
    concurrent_runs: int | None = Field(default=None, ge=1, le=MOST)
    budget: BudgetIn | None = None

    def limits(self) -> Limits:
        """Raises InvalidValue."""
        rates = Rates(self.requests_per_minute, self.tokens_per_minute, self.concurrent_runs)
        return Limits(rates, self.budget.budget() if self.budget else None)


class BudgetOut(BaseModel):
    tokens: int | None
    cost_usd: float | None
    period: str
    spent_tokens: int
    spent_cost_usd: float
    exhausted: bool
    resets_at: datetime | None = Field(description="None for a budget in total.")


class LimitsOut(BaseModel):
    scope: LimitScope
    id: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent_runs: int | None
    budget: BudgetOut | None
    updated_at: datetime
    updated_by: str

    @classmethod
    def of(cls, state: LimitState) -> "LimitsOut":
        rule = state.rule
        rates = rule.limits.rates
        return cls(
            scope=rule.subject.scope,
            id=rule.subject.id,
            requests_per_minute=rates.requests_per_minute,
            tokens_per_minute=rates.tokens_per_minute,
            concurrent_runs=rates.concurrent_runs,
            budget=_budget(state),
            updated_at=rule.updated_at,
            updated_by=rule.updated_by,
        )


class LimitsList(BaseModel):
    object: Literal["list"] = "list"
    data: list[LimitsOut]
    has_more: bool
    next_cursor: str | None


class UsageDayOut(BaseModel):
    day: date
    scope: LimitScope
    id: str
    runs: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    total_tokens: int
    cost_usd: float
    unpriced_tokens: int = Field(
        description="Of runs in which some model had no price: `cost_usd` is without them."
    )

    @classmethod
    def of(cls, used: UsageDay) -> "UsageDayOut":
        return cls(
            day=used.day,
            scope=used.subject.scope,
            id=used.subject.id,
            runs=used.runs,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cached_tokens=used.cached_tokens,
            total_tokens=used.input_tokens + used.output_tokens,
            cost_usd=float(used.cost),
            unpriced_tokens=used.unpriced_tokens,
        )


class UsageList(BaseModel):
    object: Literal["list"] = "list"
    data: list[UsageDayOut]


@router.get("/limits")
async def list_limits(
    caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> LimitsList:
    """Rate limits and budgets, the last changed first: an admin sees every one of the project,
    others the project's own and those of their keys and agents."""
    page = await queries.page(caller, limit=limit, after=after)
    return LimitsList(
        data=[LimitsOut.of(state) for state in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/limits/{scope}/{id}")
async def get_limits(scope: LimitScope, id: Id, caller: Caller, queries: Queries) -> LimitsOut:
    """The limits of a key, a project or an agent, and what of its budget is spent."""
    return LimitsOut.of(await queries.get(caller, scope, id))


@router.put("/limits/{scope}/{id}", responses=errors_of(413))
async def set_limits(
    scope: LimitScope,
    id: Id,
    body: LimitsPut,
    caller: Caller,
    queries: Queries,
    handle: Annotated[SetLimitsHandler, provided(lambda c: c.set_limits())],
) -> LimitsOut:
    """Limit a key, a project or an agent, in place of what was set before. In force at once, on
    other replicas within 2 s."""
    rule = await handle(SetLimits(actor=caller, scope=scope, id=id, limits=body.limits()))
    return LimitsOut.of((await queries.states([rule]))[0])


@router.delete("/limits/{scope}/{id}")
async def remove_limits(
    scope: LimitScope,
    id: Id,
    caller: Caller,
    queries: Queries,
    handle: Annotated[RemoveLimitsHandler, provided(lambda c: c.remove_limits())],
) -> LimitsOut:
    """Back to what the settings say of everybody. What was spent stays counted."""
    rule = await handle(RemoveLimits(actor=caller, scope=scope, id=id))
    return LimitsOut.of((await queries.states([rule]))[0])


@router.get("/usage")
async def get_usage(
    caller: Caller,
    queries: Queries,
    by: Annotated[LimitScope, Query(description="What to add up for.")] = LimitScope.PROJECT,
    since: Annotated[Day | None, Query(description="A day, UTC.")] = None,
    until: Annotated[Day | None, Query(description="A day, UTC, included.")] = None,
) -> UsageList:
    """Tokens and cost by day, the newest first: an admin sees every key and agent, others theirs.
    Without dates, the last thirty days."""
    days = await queries.usage(caller, by, since, until)
    return UsageList(data=[UsageDayOut.of(used) for used in days])


def usd(value: float) -> Decimal:
    return rounded(Decimal(str(value)))


def _budget(state: LimitState) -> BudgetOut | None:
    budget, spent = state.rule.limits.budget, state.spent
    if budget is None or spent is None:
        return None
    return BudgetOut(
        tokens=budget.tokens,
        cost_usd=None if budget.cost is None else float(budget.cost),
        period=budget.period,
        spent_tokens=spent.tokens,
        spent_cost_usd=float(spent.cost),
        exhausted=budget.used_up(spent),
        resets_at=state.resets_at,
    )
