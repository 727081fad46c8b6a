"""Admission, metering and settling, on the memory limiter and a clock of our own."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial

import pytest

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.admission import Admission
from runtime.application.services.engine import Engine, expected_tokens
from runtime.application.services.execution import Execution
from runtime.application.services.instances import InstanceCache
from runtime.application.services.quotas import STANDING, Quotas, duration
from runtime.application.services.recorder import RunRecorder
from runtime.application.services.rulebook import RuleBook
from runtime.domain.entities.limits import LimitRule, PriceRule
from runtime.domain.errors import (
    BudgetExhausted,
    DomainError,
    LimitReached,
    ModelUnpriced,
    RequestTooLarge,
    UnsupportedParameter,
)
from runtime.domain.events.runs import RunCancelled, RunEvent, RunFailed, TextDelta, UsageReported
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.services.metering import METER
from runtime.domain.services.models import ModelCall
from runtime.domain.value_objects.chat import ChatRole, GenerationOptions, Message, Usage
from runtime.domain.value_objects.identity import LOCAL_ADMIN
from runtime.domain.value_objects.ids import KeyId
from runtime.domain.value_objects.limits import (
    Budget,
    Limits,
    LimitScope,
    Period,
    Price,
    Rates,
    Subject,
)
from runtime.infrastructure.quotas.memory import MemoryRateLimiter
from tests.contracts.samples import PROJECT, a_line, a_version
from tests.fakes import MemoryRunLog, MemoryStore, Published, memory_unit_of_work
from tests.fakes_limits import MemoryLedger
from tests.fakes_runs import Script, ScriptedExecutor

NOW = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)
HOUSE = Subject(PROJECT, LimitScope.PROJECT, PROJECT)
KEY = Subject(PROJECT, LimitScope.KEY, "key_1")
ASKED = ModelCall(None, [Message(ChatRole.USER, "x" * 40)])
"""Ten tokens."""


class Bench:
    """An engine under limits."""

    def __init__(self, script: Script, defaults: Mapping[LimitScope, Rates] | None = None) -> None:
        self.at = 1_000.0
        self.executor = ScriptedExecutor(script)
        self.store = MemoryStore()
        self.ledger = MemoryLedger(self.store)
        self.book = RuleBook(self.ledger, defaults or {})
        limiter = MemoryRateLimiter(lambda: self.at)
        self.quotas = Quotas(self.book, limiter, self.ledger, lambda: NOW)
        self.engine = Engine(
            InstanceCache(self.executor, size=2, idle_s=60, clock=lambda: self.at),
            Admission(10, 10, 10),
            RunRecorder(MemoryRunLog(self.store)),
            partial(memory_unit_of_work, self.store, Published()),
            lambda: NOW,
            60,
            quotas=self.quotas,
        )
        self.agent = a_version(a_line())

    async def limit(
        self, subject: Subject, *rates: int | None, budget: Budget | None = None
    ) -> None:
        self.store.tables.limits[subject] = LimitRule(
            subject=subject,
            owner_id=LOCAL_ADMIN.user_id,
            limits=Limits(Rates(*rates), budget),
            updated_at=NOW,
            updated_by=LOCAL_ADMIN.user_id,
        )
        await self.book.load()

    async def price(self, model: str, input: str, output: str) -> None:
        self.store.tables.prices[PROJECT, model] = PriceRule(
            model=model,
            project_id=PROJECT,
            owner_id=LOCAL_ADMIN.user_id,
            price=Price(Decimal(input), Decimal(output), Decimal(input)),
            updated_at=NOW,
        )
        await self.book.load()

    async def start(self, *, choices: int = 1, max_tokens: int | None = None) -> Execution:
        return await self.engine.start(self.agent, self.command(choices, max_tokens))

    async def end(self) -> RunEvent:
        execution = await self.start()
        return [event async for _, events in execution.batches() for event in events][-1]

    def command(self, choices: int = 1, max_tokens: int | None = None) -> ExecuteAgent:
        return ExecuteAgent(
            caller=replace(LOCAL_ADMIN, project_id=PROJECT, key_id=KeyId("key_1")),
            model="support",
            messages=[Message(ChatRole.USER, "Hello you")],
            options=GenerationOptions(max_tokens=max_tokens),
            choices=choices,
        )


async def uses_ten_tokens(_: RunInput, emit: Emit) -> None:
    await emit(UsageReported(Usage(6, 4), "m", called="p/m"))


async def streams_for_ever(_: RunInput, emit: Emit) -> None:
    """As the model service does, with an agent that will not be stopped by an exception."""
    meter = METER.get()
    assert meter
    call = meter.begin("p/m", ASKED)
    characters = 0
    while True:
        await emit(TextDelta("four"))
        characters += 4
        try:
            if call:
                call.streamed(characters)
        except DomainError:
            meter.lost(UsageReported(Usage(10, characters // 4), "p/m", estimated=True))
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0201, "20ms"),
        (1, "1s"),
        (0.9996, "1s"),
        (1.5, "1.5s"),
        (59.25, "59.25s"),
        (61, "1m1s"),
        (360, "6m0s"),
        (3_600, "1h0m0s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_tokens_are_estimated_by_characters_and_by_the_longest_answer() -> None:
    bench = Bench(uses_ten_tokens)

    assert expected_tokens(bench.command()) == 3
    assert expected_tokens(bench.command(max_tokens=100)) == 103


async def test_without_rules_nothing_is_asked_of_anybody() -> None:
    bench = Bench(uses_ten_tokens)
    caller = bench.command().caller

    assert await bench.quotas.admit(caller, None, tokens=lambda: 1 // 0) is None


async def test_the_tightest_limit_is_the_one_that_is_told() -> None:
    bench = Bench(uses_ten_tokens)
    await bench.limit(HOUSE, 100, 1_000)
    await bench.limit(KEY, 10)
    await bench.start(max_tokens=97)
    standing = STANDING.get()

    assert standing
    assert standing.requests
    assert standing.tokens
    assert (standing.requests.limit, standing.requests.remaining) == (10, 9)
    assert (standing.tokens.limit, standing.tokens.remaining) == (1_000, 900)
    assert standing.requests.reset_s == 61


async def test_a_refusal_says_whose_limit_it_is_and_when_to_come_back() -> None:
    bench = Bench(uses_ten_tokens)
    await bench.limit(KEY, 1)
    await bench.end()
    bench.at += 30.5
    with pytest.raises(LimitReached) as refused:
        await bench.start()

    assert str(refused.value) == (
        "Rate limit reached for this API key on requests per minute: limit 1. "
        "Please try again in 30.5s."
    )
    assert (refused.value.scope, refused.value.kind) == ("key", "requests")
    assert refused.value.retry_after_s == 30.5


async def test_what_never_fits_is_not_to_be_repeated() -> None:
    bench = Bench(uses_ten_tokens)
    await bench.limit(KEY, None, 100)
    with pytest.raises(RequestTooLarge, match="limit 100, requested about 103"):
        await bench.start(max_tokens=100)

    assert bench.engine.admission.running == 0


async def test_tokens_are_settled_with_what_was_used() -> None:
    bench = Bench(uses_ten_tokens)
    await bench.limit(KEY, None, 100)
    await (await bench.start(choices=2, max_tokens=40)).answers()
    await bench.end()
    standing = STANDING.get()

    assert standing
    assert standing.tokens
    assert standing.tokens.remaining == 100 - 20 - 3


async def test_places_are_given_back_one_by_one_and_when_nothing_begins() -> None:
    bench = Bench(uses_ten_tokens)
    await bench.limit(KEY, None, None, 2)
    with pytest.raises(LimitReached, match="runs at once: limit 2"):
        await bench.start(choices=3)
    for _ in range(3):
        await (await bench.start(choices=2)).answers()


async def test_settings_hold_where_a_rule_says_nothing() -> None:
    bench = Bench(uses_ten_tokens, {LimitScope.KEY: Rates(requests_per_minute=1)})
    await bench.end()
    with pytest.raises(LimitReached):
        await bench.start()
    await bench.limit(KEY, 5)
    await bench.end()


async def test_a_budget_in_use_stops_the_run_whatever_its_code_does() -> None:
    bench = Bench(streams_for_ever)
    await bench.limit(KEY, budget=Budget(tokens=50, period=Period.DAY))
    end = await asyncio.wait_for(bench.end(), 5)

    assert isinstance(end, RunFailed)
    assert isinstance(end.error, BudgetExhausted)
    (spent,) = await bench.ledger.spent([(KEY, None)])
    assert 50 < spent.tokens <= 61
    with pytest.raises(
        BudgetExhausted, match=r"50 tokens a day, is used up.*at 2026-04-01T00:00:00Z"
    ):
        await bench.start()


async def test_runs_at_once_see_each_other_s_spending() -> None:
    bench = Bench(streams_for_ever)
    await bench.limit(KEY, budget=Budget(tokens=400))
    ends = await asyncio.wait_for(asyncio.gather(*(bench.end() for _ in range(8))), 10)

    assert all(isinstance(end, RunFailed) for end in ends)
    (spent,) = await bench.ledger.spent([(KEY, None)])
    assert 400 < spent.tokens <= 400 + 8 * 11


async def test_an_answer_that_is_here_is_delivered_and_the_next_call_is_not_made() -> None:
    async def calls_twice(_: RunInput, emit: Emit) -> None:
        for _number in range(2):
            meter = METER.get()
            assert meter
            call = meter.begin("p/m", ModelCall(None, ASKED.messages, stream=False))
            assert call
            call.streamed(4_000)
            await emit(UsageReported(Usage(10, 1_000), "m", called="p/m"))
            call.ended(Usage(10, 1_000))

    bench = Bench(calls_twice)
    await bench.limit(KEY, budget=Budget(tokens=100))
    end = await bench.end()

    assert isinstance(end, RunFailed)
    assert isinstance(end.error, BudgetExhausted)
    assert (await bench.ledger.spent([(KEY, None)]))[0].tokens == 1_010


async def test_what_was_counted_when_it_was_ordered_is_no_second_request() -> None:
    bench = Bench(uses_ten_tokens)
    await bench.limit(HOUSE, 2)
    caller, line, ask = bench.command().caller, bench.agent.line_id, bench.quotas.admit
    for _ in range(2):
        assert await ask(caller, line, tokens=lambda: 1)
        assert await ask(caller, line, tokens=lambda: 1, counted=True) is None

    with pytest.raises(LimitReached):
        await ask(caller, line, tokens=lambda: 1)


async def test_money_is_counted_by_the_price_of_what_was_called() -> None:
    bench = Bench(uses_ten_tokens)
    await bench.price("p/*", "1", "2")
    await bench.price("*", "100", "100")
    await bench.limit(HOUSE, budget=Budget(cost=Decimal("0.000014")))
    await bench.end()
    run = next(iter(bench.store.tables.runs.values()))

    assert run.cost == Decimal("0.000014")
    assert run.key_id == "key_1"
    with pytest.raises(BudgetExhausted, match=r"0\.000014 USD a month"):
        await bench.start()


async def test_under_a_budget_in_money_a_model_has_a_price() -> None:
    bench = Bench(streams_for_ever)
    await bench.limit(HOUSE, budget=Budget(cost=Decimal(1)))
    end = await bench.end()

    assert isinstance(end, RunFailed)
    assert isinstance(end.error, ModelUnpriced)


async def test_a_run_that_is_left_is_charged() -> None:
    begun = asyncio.Event()

    async def waits(_: RunInput, emit: Emit) -> None:
        await emit(UsageReported(Usage(30, 12), "m"))
        begun.set()
        await asyncio.Event().wait()

    bench = Bench(waits)
    await bench.limit(KEY, None, None, 1, budget=Budget(tokens=1_000))
    execution = await bench.start()
    await begun.wait()
    await execution.aclose()
    last = [event async for _, events in execution.batches() for event in events][-1]

    assert isinstance(last, RunCancelled)
    assert (await bench.ledger.spent([(KEY, None)]))[0].tokens == 42
    await (await bench.start()).aclose()


async def test_a_run_cancelled_before_its_first_step_gives_its_place_back() -> None:
    bench = Bench(uses_ten_tokens)
    await bench.limit(KEY, None, None, 1)
    for _ in range(3):
        execution = await bench.start()
        execution.cancel()
        await execution.aclose()
        async for _ in execution.batches():
            pass


async def test_a_run_that_does_not_begin_gives_everything_back_but_the_request() -> None:
    bench = Bench(uses_ten_tokens)
    bench.executor.unsupported = {"max_tokens": "there are none"}
    await bench.limit(KEY, 10, 100, 1)
    for _ in range(3):
        with pytest.raises(UnsupportedParameter):
            await bench.start(max_tokens=80)
    await bench.end()
    standing = STANDING.get()

    assert standing
    assert standing.requests
    assert standing.requests.remaining == 6


async def test_what_is_no_run_is_charged_by_its_usage() -> None:
    bench = Bench(uses_ten_tokens)
    await bench.price("p/embed", "1", "0")
    await bench.quotas.charge(bench.command().caller, None, Usage(1_000, 0), "p/embed")

    (spent,) = await bench.ledger.spent([(KEY, None)])
    assert (spent.tokens, spent.cost) == (1_000, Decimal("0.001"))


@pytest.mark.parametrize(
    ("period", "begins", "ends"),
    [
        (Period.DAY, date(2026, 12, 31), datetime(2027, 1, 1, tzinfo=UTC)),
        (Period.MONTH, date(2026, 12, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        (Period.TOTAL, None, None),
    ],
)
def test_periods_are_those_of_the_calendar(
    period: Period, begins: date | None, ends: datetime | None
) -> None:
    today = date(2026, 12, 31)

    assert (period.begins(today), period.ends(today)) == (begins, ends)


def test_cached_input_has_a_price_of_its_own() -> None:
    price = Price(input=Decimal(2), output=Decimal(8), cached_input=Decimal("0.5"))

    assert price.of(Usage(1_000_000, 500_000, 400_000)) == Decimal("5.4")
