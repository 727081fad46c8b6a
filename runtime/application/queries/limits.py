from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from runtime.application.handlers.limits import rule_of
from runtime.application.services.recorder import RunRecorder
from runtime.domain.entities.limits import LimitRule, PriceRule, UsageDay
from runtime.domain.errors import InvalidValue
from runtime.domain.repositories.limits import Ledger
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.limits import LimitScope, Spent
from runtime.domain.value_objects.pages import Page

MOST_DAYS = 400


@dataclass(frozen=True, slots=True)
class LimitState:
    rule: LimitRule
    spent: Spent | None
    """Of its budget, in the period that goes on."""
    resets_at: datetime | None


@dataclass(frozen=True)
class LimitQueries:
    """Reads see what every run that has ended used: what waits to be written is written first."""

    uow: UnitOfWorkFactory
    ledger: Ledger
    recorder: RunRecorder
    now: Callable[[], datetime]

    async def get(self, actor: Principal, scope: LimitScope, id: str) -> LimitState:
        """Raises LimitNotFound."""
        actor.require_scope(KeyScope.SYSTEM)
        async with self.uow(actor.scope) as work:
            rule = await rule_of(work, actor, scope, id)
        return (await self.states([rule]))[0]

    async def page(self, actor: Principal, *, limit: int, after: str | None) -> Page[LimitState]:
        actor.require_scope(KeyScope.SYSTEM)
        async with self.uow(actor.scope) as work:
            page = await work.limits.page(limit=limit, after=after)
        return Page(await self.states(page.items), page.next_cursor)

    async def states(self, rules: Sequence[LimitRule]) -> Sequence[LimitState]:
        today = self.now().date()
        asked = {
            rule.subject: budget.period.begins(today)
            for rule in rules
            if (budget := rule.limits.budget)
        }
        spent: dict[object, Spent] = {}
        if asked:
            await self.recorder.flush()
            spent = dict(zip(asked, await self.ledger.spent(list(asked.items())), strict=True))
        return [
            LimitState(
                rule,
                spent.get(rule.subject),
                rule.limits.budget.period.ends(today) if rule.limits.budget else None,
            )
            for rule in rules
        ]

    async def prices(self, actor: Principal, *, limit: int, after: str | None) -> Page[PriceRule]:
        actor.require_scope(KeyScope.SYSTEM)
        async with self.uow(actor.scope) as work:
            return await work.prices.page(limit=limit, after=after)

    async def price(self, actor: Principal, model: str) -> PriceRule:
        """Raises PriceNotFound."""
        actor.require_scope(KeyScope.SYSTEM)
        async with self.uow(actor.scope) as work:
            return await work.prices.get(model)

    async def usage(
        self, actor: Principal, scope: LimitScope, since: date | None, until: date | None
    ) -> Sequence[UsageDay]:
        """Without dates, of the last thirty days. Raises InvalidValue."""
        actor.require_scope(KeyScope.RUNS_READ)
        until = until or self.now().date()
        since = since or until - min(timedelta(days=29), until - date.min)
        if not timedelta() <= until - since < timedelta(days=MOST_DAYS):
            raise InvalidValue(f"It is a span of at most {MOST_DAYS} days.", param="since")
        await self.recorder.flush()
        async with self.uow(actor.scope) as work:
            return await work.usage.days(scope, since, until)
