"""What a run spends while it goes on, against the budgets that it is under."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime.application.services.rulebook import PriceOf
from runtime.domain.entities.runs import Run
from runtime.domain.errors import BudgetExhausted, DomainError, ModelUnpriced
from runtime.domain.events.runs import UsageReported
from runtime.domain.services.metering import Meter, MeteredCall
from runtime.domain.services.models import ModelCall
from runtime.domain.value_objects.chat import Usage, estimated_tokens
from runtime.domain.value_objects.limits import (
    NOTHING_SPENT,
    Budget,
    Price,
    Spent,
    Subject,
)

LOOK_EVERY = 40
"""Characters of a stream from one look at the budgets to the next: about ten tokens."""


@dataclass(eq=False)
class Purse:
    """One budget's period, as all runs of this process spend from it."""

    subject: Subject
    budget: Budget
    refusal: str
    """What is said when it is empty."""
    stored: Spent = NOTHING_SPENT
    """In the database, less what of it this process had spent."""
    spent: Spent = NOTHING_SPENT
    """By this process, runs that go on included."""
    durable: Spent = NOTHING_SPENT
    """Of that, what is stored."""

    @property
    def total(self) -> Spent:
        return self.stored + self.spent

    def error(self) -> BudgetExhausted:
        return BudgetExhausted(self.refusal, scope=self.subject.scope)


class RunMeter(Meter):
    def __init__(
        self,
        purses: Sequence[Purse],
        price_of: PriceOf,
        report: Callable[[UsageReported], None],
        stop: Callable[[DomainError], None],
    ) -> None:
        self._purses = purses
        self._price_of = price_of
        self._in_money = any(purse.budget.cost is not None for purse in purses)
        self._spent = NOTHING_SPENT
        self._stop = stop
        self._report = report

    def begin(self, model: str, call: ModelCall) -> MeteredCall | None:
        if not self._purses:
            return None
        price = self._price_of(model)
        if price is None and self._in_money:
            raise self._stopped(ModelUnpriced(model))
        for purse in self._purses:
            if purse.budget.used_up(purse.total):
                raise self._stopped(purse.error())
        return _Call(self, price, call)

    def lost(self, report: UsageReported) -> None:
        self._report(report)

    def spend(self, more: Spent) -> None:
        self._spent += more
        for purse in self._purses:
            purse.spent += more

    def check(self) -> None:
        """Raises BudgetExhausted when more is spent than there was."""
        for purse in self._purses:
            if purse.budget.overdrawn(purse.total):
                raise self._stopped(purse.error())

    def settle(self, run: Run) -> None:
        """The record is stored: it counts, not what was seen on the way."""
        final = Spent(run.usage.total_tokens, run.cost or NOTHING_SPENT.cost)
        self.spend(final - self._spent)
        for purse in self._purses:
            purse.durable += final

    def _stopped(self, error: DomainError) -> DomainError:
        # An exception alone would leave it to the template's code whether the run goes on.
        self._stop(error)
        return error


class _Call(MeteredCall):
    def __init__(self, meter: RunMeter, price: Price | None, call: ModelCall) -> None:
        self._meter = meter
        self._price = price
        self._asked = estimated_tokens(sum(message.characters for message in call.messages))
        self._counted = NOTHING_SPENT
        # An answer in one piece is paid for when it is here: cutting it would save nothing.
        self._next = LOOK_EVERY if call.stream else math.inf
        self._count(Usage(self._asked))

    def streamed(self, characters: int) -> None:
        if characters < self._next:
            return
        self._next = characters + LOOK_EVERY
        self._count(Usage(self._asked, estimated_tokens(characters)))
        self._meter.check()

    def ended(self, usage: Usage) -> None:
        self._count(usage)

    def _count(self, usage: Usage) -> None:
        cost = self._price.of(usage) if self._price else NOTHING_SPENT.cost
        now = Spent(usage.total_tokens, cost)
        self._meter.spend(now - self._counted)
        self._counted = now
