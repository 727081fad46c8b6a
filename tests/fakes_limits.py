"""In-memory stand-ins for limits, prices and what was used."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, TypeVar

from runtime.domain.entities.limits import LimitRule, PriceRule, UsageDay
from runtime.domain.errors import LimitNotFound, PriceNotFound
from runtime.domain.repositories.limits import (
    Ledger,
    LimitRepository,
    PriceRepository,
    UsageRepository,
)
from runtime.domain.value_objects.limits import NOTHING_SPENT, LimitScope, Spent, Subject
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.repositories.cursors import Cursors, Position

if TYPE_CHECKING:
    from tests.fakes import MemoryStore, MemoryTransaction, Tables

T = TypeVar("T")


class MemoryLimitRepository(LimitRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def get(self, subject: Subject) -> LimitRule:
        for rule in self._shown():
            if rule.subject == subject:
                return replace(rule)
        raise LimitNotFound(subject.scope, subject.id)

    async def put(self, rule: LimitRule) -> None:
        (await self._transaction.writing()).limits[rule.subject] = replace(rule, events=[])
        self._transaction.seen.append(rule)

    async def remove(self, rule: LimitRule) -> None:
        if rule in self._shown():
            del (await self._transaction.writing()).limits[rule.subject]
        self._transaction.seen.append(rule)

    async def page(self, *, limit: int, after: str | None) -> Page[LimitRule]:
        return _page(Cursors("limits"), self._shown(), limit, after, _limit_position)

    def _shown(self) -> list[LimitRule]:
        rules = self._transaction.ours(self._transaction.tables.limits.values())
        return [
            rule
            for rule in rules
            if self._transaction.scope.administers
            or rule.owner_id == self._transaction.scope.user_id
            or rule.subject.scope is LimitScope.PROJECT
        ]


class MemoryPriceRepository(PriceRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def get(self, model: str) -> PriceRule:
        for rule in self._ours():
            if rule.model == model:
                return rule
        raise PriceNotFound(model)

    async def put(self, rule: PriceRule) -> None:
        prices = (await self._transaction.writing()).prices
        prices[rule.project_id, rule.model] = replace(rule, events=[])
        self._transaction.seen.append(rule)

    async def remove(self, rule: PriceRule) -> None:
        del (await self._transaction.writing()).prices[rule.project_id, rule.model]
        self._transaction.seen.append(rule)

    async def page(self, *, limit: int, after: str | None) -> Page[PriceRule]:
        return _page(Cursors("prices"), self._ours(), limit, after, _price_position)

    def _ours(self) -> list[PriceRule]:
        return self._transaction.ours(self._transaction.tables.prices.values())


class MemoryUsageRepository(UsageRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def days(self, scope: LimitScope, since: date, until: date) -> Sequence[UsageDay]:
        tables, scope_of = self._transaction.tables, self._transaction.scope
        owners: dict[LimitScope, dict[str, str]] = {
            LimitScope.KEY: {key.id: key.owner_id for key in tables.keys.values()},
            LimitScope.AGENT: {line.id: line.owner_id for line in tables.lines.values()},
        }
        owned = owners.get(scope)
        found = [
            used
            for used in tables.usage.values()
            if used.subject.project_id == scope_of.project_id
            and used.subject.scope is scope
            and since <= used.day <= until
            and (
                owned is None
                or scope_of.administers
                or owned.get(used.subject.id) == scope_of.user_id
            )
        ]
        return sorted(found, key=lambda used: (-used.day.toordinal(), str(used.subject)))


class MemoryLedger(Ledger):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    async def rules(self) -> tuple[Sequence[LimitRule], Sequence[PriceRule]]:
        tables = self._store.tables
        return list(tables.limits.values()), list(tables.prices.values())

    async def spent(self, asked: Sequence[tuple[Subject, date | None]]) -> Sequence[Spent]:
        usage = self._store.tables.usage.values()
        return [
            sum(
                (
                    Spent(used.input_tokens + used.output_tokens, used.cost)
                    for used in usage
                    if used.subject == subject and (since is None or used.day >= since)
                ),
                NOTHING_SPENT,
            )
            for subject, since in asked
        ]

    async def charge(self, days: Sequence[UsageDay]) -> None:
        async with self._store.writer:
            tables = self._store.tables.copy()
            add_usage(tables, days)
            self._store.tables = tables


def add_usage(tables: "Tables", days: Iterable[UsageDay]) -> None:
    for used in days:
        known = tables.usage.get((used.subject, used.day))
        tables.usage[used.subject, used.day] = known + used if known else used


def _limit_position(rule: LimitRule) -> Position:
    return Position(rule.updated_at, str(rule.subject))


def _price_position(rule: PriceRule) -> Position:
    return Position(rule.updated_at, rule.model)


def _page(
    cursors: Cursors,
    found: Sequence[T],
    limit: int,
    after: str | None,
    position: Callable[[T], Position],
) -> Page[T]:
    start = cursors.read(after) if after is not None else None
    rest = [item for item in found if start is None or position(item) < start]
    return cursors.page(sorted(rest, key=position, reverse=True)[: limit + 1], limit, position)
