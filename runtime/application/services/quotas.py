"""Whether a call may begin: rate limits, places, budgets."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import date, datetime
from weakref import WeakValueDictionary

from runtime.application.services.metering import Purse
from runtime.application.services.rulebook import PriceOf, RuleBook
from runtime.domain.entities.limits import usage_of
from runtime.domain.errors import DatabaseUnavailable, LimitReached, ModelUnpriced, RequestTooLarge
from runtime.domain.repositories.limits import Ledger
from runtime.domain.services.quotas import LEASE_S, Asked, RateLimiter, Window
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import LineId, ProjectId, uuid7_hex
from runtime.domain.value_objects.limits import (
    Budget,
    LimitScope,
    Rates,
    Subject,
    rounded,
    subjects_of,
)

logger = logging.getLogger(__name__)

LOAD_EVERY_S = 2.0
"""How long a change of the rules on one replica may go unseen on another."""
RENEW_EVERY = int(LEASE_S / LOAD_EVERY_S / 3)
_NAMES = {
    LimitScope.KEY: "this API key",
    LimitScope.PROJECT: "this project",
    LimitScope.AGENT: "this agent",
}
_REQUESTS, _TOKENS = 1, 2


@dataclass(frozen=True, slots=True)
class Gauge:
    limit: int
    remaining: int
    reset_s: float
    """Until all of it is there again."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Of the limits of a call, how much the tightest leave; None where there is no such limit."""

    requests: Gauge | None
    tokens: Gauge | None


STANDING: ContextVar[Standing | None] = ContextVar("standing", default=None)
"""Of the caller of the request that is being answered in this context."""


@dataclass(frozen=True)
class Grant:
    """What was taken for a call with limits, to be settled when each of its runs ends."""

    limiter: RateLimiter
    asked: Asked
    slot: int
    reserved: int
    """Tokens for each run."""
    purses: Sequence[Purse]

    async def settle(self, tokens: int, runs: int = 1) -> None:
        """So many runs have ended, with so many tokens together."""
        surplus = tokens - self.reserved * runs if self._counts_tokens else 0
        if not (surplus or self._holds_places):
            return
        try:
            await self.limiter.settle(self.asked, self.slot, surplus, runs)
        except DatabaseUnavailable:
            logger.warning("places and tokens of %s free themselves later", self.asked.holder)

    @property
    def _counts_tokens(self) -> bool:
        return any(rates.tokens_per_minute is not None for _, rates in self.asked.rates)

    @property
    def _holds_places(self) -> bool:
        return any(rates.concurrent_runs is not None for _, rates in self.asked.rates)


class Quotas:
    def __init__(
        self,
        book: RuleBook,
        limiter: RateLimiter,
        ledger: Ledger,
        now: Callable[[], datetime],
    ) -> None:
        self.book = book
        self._limiter = limiter
        self._ledger = ledger
        self._now = now
        # For as long as some run spends from it.
        self._purses: WeakValueDictionary[tuple[Subject, Budget, date | None], Purse]
        self._purses = WeakValueDictionary()
        self._task: asyncio.Task[None] | None = None

    def price_of(self, project: ProjectId) -> PriceOf:
        return self.book.price_of(project)

    async def admit(
        self,
        caller: Principal,
        line_id: LineId | None,
        *,
        tokens: Callable[[], int],
        runs: int = 1,
        counted: bool = False,
    ) -> Grant | None:
        """None where nothing is limited. `tokens` estimates what each run will use. `counted`: as
        a request it was counted before.

        Raises LimitReached, RequestTooLarge, BudgetExhausted, DatabaseUnavailable.
        """
        if self.book.without_limits:
            return None
        subjects = subjects_of(caller.project_id, caller.key_id, line_id)
        found = [(each, limits) for each in subjects if (limits := self.book.limits_of(each))]
        budgets = [(subject, limits.budget) for subject, limits in found if limits.budget]
        rates = [(subject, limits.rates) for subject, limits in found if limits.rates]
        if counted:
            rest = [(each, replace(its, requests_per_minute=None)) for each, its in rates]
            rates = [(each, its) for each, its in rest if its]
        if not (budgets or rates):
            return None
        purses = await self._opened(budgets) if budgets else ()
        by_tokens = any(each.tokens_per_minute is not None for _, each in rates)
        reserved = tokens() if by_tokens else 0
        asked = Asked(f"hold_{uuid7_hex()}", rates, reserved * runs, runs)
        slot = await self._begun(asked) if rates else 0
        return Grant(self._limiter, asked, slot, reserved, purses)

    def check_price(self, grant: Grant | None, project: ProjectId, model: str) -> None:
        """Raises ModelUnpriced where a budget in money pays for a model without a price."""
        in_money = grant and any(purse.budget.cost is not None for purse in grant.purses)
        if in_money and self.price_of(project)(model) is None:
            raise ModelUnpriced(model)

    async def charge(
        self, caller: Principal, line_id: LineId | None, usage: Usage, model: str
    ) -> None:
        """For what is no run, and has no record. `model` is `provider/name`.

        Raises DatabaseUnavailable.
        """
        price = self.price_of(caller.project_id)(model)
        cost = rounded(price.of(usage)) if price else None
        day = self._now().date()
        subjects = subjects_of(caller.project_id, caller.key_id, line_id)
        await self._ledger.charge(
            [usage_of(subject, day, usage, cost, runs=0) for subject in subjects]
        )

    async def start(self) -> None:
        """Raises DatabaseUnavailable."""
        await self.book.load()
        self._task = asyncio.create_task(self._keep_up(), name="quotas")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep_up(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(LOAD_EVERY_S)
            turn += 1
            try:
                await self.book.load()
                if turn % RENEW_EVERY == 0:
                    await self._limiter.renew()
            except DatabaseUnavailable:
                logger.warning("limits stay as they were: the database is away")
            # The keeper outlives whatever is wrong with one turn.
            except Exception:
                logger.exception("limits could not be brought up to date")

    async def _opened(self, budgets: Sequence[tuple[Subject, Budget]]) -> Sequence[Purse]:
        """Raises BudgetExhausted."""
        today = self._now().date()
        purses = [self._purse(subject, budget, today) for subject, budget in budgets]
        before = [purse.durable for purse in purses]
        stored = await self._ledger.spent(
            [(purse.subject, purse.budget.period.begins(today)) for purse in purses]
        )
        for purse, known, durable in zip(purses, stored, before, strict=True):
            purse.stored = known - durable
            if purse.budget.used_up(purse.total):
                raise purse.error()
        return purses

    def _purse(self, subject: Subject, budget: Budget, today: date) -> Purse:
        key = (subject, budget, budget.period.begins(today))
        purse = self._purses.get(key)
        if purse is None:
            purse = self._purses[key] = Purse(subject, budget, _used_up(subject, budget, today))
        return purse

    async def _begun(self, asked: Asked) -> int:
        """The second that it counts in. Raises LimitReached."""
        for subject, rates in asked.rates:
            most = rates.tokens_per_minute
            if most is not None and asked.tokens > most:
                raise RequestTooLarge(
                    f"Request too large for {_NAMES[subject.scope]} on tokens per minute: limit "
                    f"{most}, requested about {asked.tokens}. Send less, or ask for fewer tokens.",
                    scope=subject.scope,
                    kind="tokens",
                )
        windows = await self._limiter.admit(asked)
        fits = all(window.fits for window in windows)
        STANDING.set(_standing(asked, windows, admitted=fits))
        if not fits:
            raise _refusal(asked, windows)
        return int(windows[0].at)


def _used_up(subject: Subject, budget: Budget, today: date) -> str:
    allowed = [f"{budget.tokens} tokens"] if budget.tokens is not None else []
    allowed += [f"{budget.cost.normalize():f} USD"] if budget.cost is not None else []
    ends = budget.period.ends(today)
    then = f"It begins anew at {ends:%Y-%m-%dT%H:%M:%SZ}" if ends else "It does not begin anew"
    per = "in total" if ends is None else f"a {budget.period}"
    return (
        f"The budget of {_NAMES[subject.scope]}, {' and '.join(allowed)} {per}, is used up. "
        f"{then}; an admin may raise it."
    )


def _refusal(asked: Asked, windows: Sequence[Window]) -> LimitReached:
    """Of all limits that have no room, the one that takes longest to have some."""
    found = [
        problem
        for (subject, rates), window in zip(asked.rates, windows, strict=True)
        if not window.fits
        for problem in _problems(subject, rates, asked, window)
    ]
    wait_s, subject, most, kind = max(found, key=lambda problem: problem[0])
    what = "runs at once" if kind == "runs" else f"{kind} per minute"
    return LimitReached(
        f"Rate limit reached for {_NAMES[subject.scope]} on {what}: limit {most}. "
        f"Please try again in {duration(wait_s)}.",
        scope=subject.scope,
        kind=kind,
        retry_after_s=wait_s,
    )


def _problems(
    subject: Subject, rates: Rates, asked: Asked, window: Window
) -> list[tuple[float, Subject, int, str]]:
    found = []
    for kind, most, wanted, column in (
        ("requests", rates.requests_per_minute, window.requests + 1, _REQUESTS),
        ("tokens", rates.tokens_per_minute, window.tokens + asked.tokens, _TOKENS),
    ):
        if most is not None and wanted > most:
            found.append((window.wait_s(column, wanted - most), subject, most, kind))
    most = rates.concurrent_runs
    if most is not None and window.runs + asked.runs > most:
        found.append((1.0, subject, most, "runs"))
    return found


def _standing(asked: Asked, windows: Sequence[Window], *, admitted: bool) -> Standing:
    requests, tokens = [], []
    for (_, rates), window in zip(asked.rates, windows, strict=True):
        if rates.requests_per_minute is not None:
            used = window.requests + (1 if admitted else 0)
            requests.append(_gauge(rates.requests_per_minute, used, window, _REQUESTS, admitted))
        if rates.tokens_per_minute is not None:
            used = window.tokens + (asked.tokens if admitted else 0)
            tokens.append(_gauge(rates.tokens_per_minute, used, window, _TOKENS, admitted))
    return Standing(min(requests, key=_left, default=None), min(tokens, key=_left, default=None))


def _gauge(most: int, used: int, window: Window, column: int, admitted: bool) -> Gauge:
    reset_s = window.whole_s if admitted and used else window.reset_s(column)
    return Gauge(most, max(most - used, 0), reset_s)


def _left(gauge: Gauge) -> int:
    return gauge.remaining


def duration(seconds: float) -> str:
    """As Go writes it, and OpenAI with it: `20ms`, `1s`, `6m0s`."""
    milliseconds = max(round(seconds * 1_000), 0)
    if milliseconds < 1_000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1_000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
