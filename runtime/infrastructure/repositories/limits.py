from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Date,
    Dialect,
    Insert,
    Row,
    Table,
    TypeDecorator,
    delete,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.entities.limits import LimitRule, PriceRule, UsageDay
from runtime.domain.errors import LimitNotFound, PriceNotFound
from runtime.domain.repositories.limits import (
    Ledger,
    LimitRepository,
    PriceRepository,
    UsageRepository,
)
from runtime.domain.value_objects.ids import ProjectId, UserId
from runtime.domain.value_objects.limits import (
    Budget,
    Limits,
    LimitScope,
    Period,
    Price,
    Rates,
    Spent,
    Subject,
)
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.agents import agent_lines
from runtime.infrastructure.repositories.base import (
    Key,
    SqlRepository,
    UtcDateTime,
    insertable,
    metadata,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position
from runtime.infrastructure.repositories.keys import api_keys


class Usd(TypeDecorator[Decimal]):
    """In billionths: SQLite has no decimal numbers, and a sum of floats is none."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else round(value * 1_000_000_000)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value) / 1_000_000_000


limits = Table(
    "limits",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("owner_id", Key, nullable=False),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("concurrent_runs", BigInteger),
    Column("budget_tokens", BigInteger),
    Column("budget_cost", Usd),
    Column("budget_period", Key),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("updated_by", Key, nullable=False),
)
prices = Table(
    "prices",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("owner_id", Key, nullable=False),
    Column("input", Usd, nullable=False),
    Column("cached_input", Usd, nullable=False),
    Column("output", Usd, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
usage_days = Table(
    "usage_days",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("runs", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("unpriced_tokens", BigInteger, nullable=False),
    Column("cost", Usd, nullable=False),
)
_LIMIT_CURSORS = Cursors("limits")
_PRICE_CURSORS = Cursors("prices")


class SqlLimitRepository(SqlRepository, LimitRepository):
    async def get(self, subject: Subject) -> LimitRule:
        query = select(limits).where(*self._shown(), limits.c.id == str(subject))
        row = (await self._execute(query)).first()
        if row is None:
            raise LimitNotFound(subject.scope, subject.id)
        return _to_limit(row)

    async def put(self, rule: LimitRule) -> None:
        await self._execute(
            _replacing(limits, self._connection), insertable(limits, _limit_values(rule))
        )
        self._seen.append(rule)

    async def remove(self, rule: LimitRule) -> None:
        shown = (*self._shown(), limits.c.id == str(rule.subject))
        await self._execute(delete(limits).where(*shown))
        self._seen.append(rule)

    async def page(self, *, limit: int, after: str | None) -> Page[LimitRule]:
        query = select(limits).where(*self._shown()).limit(limit + 1)
        query = query.order_by(limits.c.updated_at.desc(), limits.c.id.desc())
        if after is not None:
            position = tuple_(limits.c.updated_at, limits.c.id)
            query = query.where(position < _LIMIT_CURSORS.read(after))
        found = [_to_limit(row) for row in await self._execute(query)]
        return _LIMIT_CURSORS.page(
            found, limit, lambda rule: Position(rule.updated_at, str(rule.subject))
        )

    def _shown(self) -> Iterator[ColumnElement[bool]]:
        yield limits.c.project_id == self._project
        if not self._scope.administers:
            mine = limits.c.owner_id == self._scope.user_id
            yield or_(mine, limits.c.id.startswith(f"{LimitScope.PROJECT}:"))


class SqlPriceRepository(SqlRepository, PriceRepository):
    async def get(self, model: str) -> PriceRule:
        row = (await self._execute(select(prices).where(*self._named(model)))).first()
        if row is None:
            raise PriceNotFound(model)
        return _to_price(row)

    async def put(self, rule: PriceRule) -> None:
        await self._execute(
            _replacing(prices, self._connection), insertable(prices, _price_values(rule))
        )
        self._seen.append(rule)

    async def remove(self, rule: PriceRule) -> None:
        await self._execute(delete(prices).where(*self._named(rule.model)))
        self._seen.append(rule)

    async def page(self, *, limit: int, after: str | None) -> Page[PriceRule]:
        query = select(prices).where(prices.c.project_id == self._project).limit(limit + 1)
        query = query.order_by(prices.c.updated_at.desc(), prices.c.id.desc())
        if after is not None:
            position = tuple_(prices.c.updated_at, prices.c.id)
            query = query.where(position < _PRICE_CURSORS.read(after))
        found = [_to_price(row) for row in await self._execute(query)]
        return _PRICE_CURSORS.page(found, limit, lambda rule: Position(rule.updated_at, rule.model))

    def _named(self, model: str) -> tuple[ColumnElement[bool], ...]:
        return prices.c.project_id == self._project, prices.c.id == model


class SqlUsageRepository(SqlRepository, UsageRepository):
    async def days(self, scope: LimitScope, since: date, until: date) -> Sequence[UsageDay]:
        query = (
            select(usage_days)
            .where(*self._shown(scope), usage_days.c.day.between(since, until))
            .order_by(usage_days.c.day.desc(), usage_days.c.id)
        )
        return [_to_day(row) for row in await self._execute(query)]

    def _shown(self, scope: LimitScope) -> Iterator[ColumnElement[bool]]:
        yield usage_days.c.project_id == self._project
        yield usage_days.c.id.startswith(f"{scope}:")
        owned = {LimitScope.KEY: api_keys, LimitScope.AGENT: agent_lines}.get(scope)
        if owned is not None and not self._scope.administers:
            mine = select(literal(f"{scope}:") + owned.c.id).where(
                owned.c.project_id == self._project, owned.c.owner_id == self._scope.user_id
            )
            yield usage_days.c.id.in_(mine)


class SqlLedger(Ledger):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def rules(self) -> tuple[Sequence[LimitRule], Sequence[PriceRule]]:
        with refusals():
            async with self._engine.connect() as connection:
                allowed = [_to_limit(row) for row in await connection.execute(select(limits))]
                priced = [_to_price(row) for row in await connection.execute(select(prices))]
        return allowed, priced

    async def spent(self, asked: Sequence[tuple[Subject, date | None]]) -> Sequence[Spent]:
        queries = [
            select(literal(number), *_SUMS).where(*_since(subject, day))
            for number, (subject, day) in enumerate(asked)
        ]
        with refusals():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(union_all(*queries))).all()
        return [Spent(int(row[1]), Decimal(row[2]) / 1_000_000_000) for row in sorted(rows)]

    async def charge(self, days: Sequence[UsageDay]) -> None:
        with refusals():
            async with self._engine.begin() as connection:
                await add_usage(connection, days)


async def add_usage(connection: AsyncConnection, days: Sequence[UsageDay]) -> None:
    """Within the caller's transaction."""
    if days:
        rows = [insertable(usage_days, _day_values(day)) for day in days]
        await connection.execute(_adding(connection), rows)


_SUMS = (
    func.coalesce(func.sum(usage_days.c.input_tokens + usage_days.c.output_tokens), 0),
    func.coalesce(func.sum(usage_days.c.cost, type_=BigInteger), 0),
)


def _since(subject: Subject, day: date | None) -> Iterator[ColumnElement[bool]]:
    yield usage_days.c.project_id == subject.project_id
    yield usage_days.c.id == str(subject)
    if day is not None:
        yield usage_days.c.day >= day


def _replacing(table: Table, connection: AsyncConnection) -> Insert:
    """INSERT … ON CONFLICT DO UPDATE, of every column."""
    statement = _insert(table, connection)
    keys = [column.name for column in table.primary_key]
    values = {name: statement.excluded[name] for name, _ in table.c.items() if name not in keys}
    changed: Insert = statement.on_conflict_do_update(index_elements=keys, set_=values)
    return changed


def _adding(connection: AsyncConnection) -> Insert:
    statement = _insert(usage_days, connection)
    keys = [column.name for column in usage_days.primary_key]
    sums = {
        name: column + statement.excluded[name]
        for name, column in usage_days.c.items()
        if name not in keys
    }
    added: Insert = statement.on_conflict_do_update(index_elements=keys, set_=sums)
    return added


def _insert(table: Table, connection: AsyncConnection) -> Any:  # noqa: ANN401 - of two dialects
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def _limit_values(rule: LimitRule) -> Mapping[str, object]:
    rates, budget = rule.limits.rates, rule.limits.budget
    return {
        "project_id": rule.project_id,
        "id": str(rule.subject),
        "owner_id": rule.owner_id,
        "requests_per_minute": rates.requests_per_minute,
        "tokens_per_minute": rates.tokens_per_minute,
        "concurrent_runs": rates.concurrent_runs,
        "budget_tokens": budget and budget.tokens,
        "budget_cost": budget and budget.cost,
        "budget_period": budget and budget.period,
        "updated_at": rule.updated_at,
        "updated_by": rule.updated_by,
    }


def _to_limit(row: Row[Any]) -> LimitRule:
    budget = row.budget_period and Budget(
        row.budget_tokens, row.budget_cost, Period(row.budget_period)
    )
    return LimitRule(
        subject=Subject.parse(ProjectId(row.project_id), row.id),
        owner_id=UserId(row.owner_id),
        limits=Limits(
            Rates(row.requests_per_minute, row.tokens_per_minute, row.concurrent_runs), budget
        ),
        updated_at=row.updated_at,
        updated_by=UserId(row.updated_by),
        events=[],
    )


def _price_values(rule: PriceRule) -> Mapping[str, object]:
    return {
        "project_id": rule.project_id,
        "id": rule.model,
        "owner_id": rule.owner_id,
        "input": rule.price.input,
        "cached_input": rule.price.cached_input,
        "output": rule.price.output,
        "updated_at": rule.updated_at,
    }


def _to_price(row: Row[Any]) -> PriceRule:
    return PriceRule(
        model=row.id,
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        price=Price(input=row.input, output=row.output, cached_input=row.cached_input),
        updated_at=row.updated_at,
        events=[],
    )


def _day_values(used: UsageDay) -> Mapping[str, object]:
    return {
        "project_id": used.subject.project_id,
        "id": str(used.subject),
        "day": used.day,
        "runs": used.runs,
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "cached_tokens": used.cached_tokens,
        "unpriced_tokens": used.unpriced_tokens,
        "cost": used.cost,
    }


def _to_day(row: Row[Any]) -> UsageDay:
    return UsageDay(
        subject=Subject.parse(ProjectId(row.project_id), row.id),
        day=row.day,
        runs=row.runs,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        unpriced_tokens=row.unpriced_tokens,
        cost=row.cost,
    )
