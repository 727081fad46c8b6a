import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from runtime.domain.entities.limits import LimitRule, PriceRule
from runtime.domain.events.base import Event
from runtime.domain.repositories.limits import Ledger
from runtime.domain.value_objects.ids import ProjectId
from runtime.domain.value_objects.limits import Limits, LimitScope, Price, Rates, Subject

PriceOf = Callable[[str], Price | None]
"""By `provider/name`."""


class RuleBook:
    """Limits and prices at hand: a call looks into a dictionary, not into the database.

    A change is in force at once on the replica that made it, on the others at their next `load`.
    """

    def __init__(self, ledger: Ledger, defaults: Mapping[LimitScope, Rates]) -> None:
        self._ledger = ledger
        self._defaults = {scope: Limits(rates) for scope, rates in defaults.items() if rates}
        self._limits: dict[Subject, Limits] = {}
        self._prices: dict[ProjectId, PriceOf] = {}

    @property
    def without_limits(self) -> bool:
        return not (self._limits or self._defaults)

    def limits_of(self, subject: Subject) -> Limits | None:
        return self._limits.get(subject) or self._defaults.get(subject.scope)

    def price_of(self, project: ProjectId) -> PriceOf:
        return self._prices.get(project, unpriced)

    async def load(self, _: Event | None = None) -> None:
        """Raises DatabaseUnavailable; what was known before then stays in force."""
        limits, prices = await self._ledger.rules()
        self._limits = {rule.subject: self._with_defaults(rule) for rule in limits}
        by_project: dict[ProjectId, list[PriceRule]] = {}
        for price in prices:
            by_project.setdefault(price.project_id, []).append(price)
        self._prices = {project: _lookup(rules) for project, rules in by_project.items()}

    def _with_defaults(self, rule: LimitRule) -> Limits:
        default = self._defaults.get(rule.subject.scope)
        if default is None:
            return rule.limits
        return Limits(rule.limits.rates.over(default.rates), rule.limits.budget)


def unpriced(_: str) -> None:
    return None


def _lookup(rules: list[PriceRule]) -> PriceOf:
    """The model's own price, or that of the longest pattern that fits."""
    exact = {rule.model: rule.price for rule in rules if "*" not in rule.model}
    longest_first = sorted(rules, key=lambda rule: (len(rule.model), rule.model), reverse=True)
    patterns = [(_pattern(rule.model), rule.price) for rule in longest_first if "*" in rule.model]

    @lru_cache(maxsize=1_024)
    def price(model: str) -> Price | None:
        fitting = (price for pattern, price in patterns if pattern.fullmatch(model))
        return exact.get(model) or next(fitting, None)

    return price


def _pattern(model: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, model.split("*"))), re.DOTALL)
