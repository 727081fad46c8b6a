"""Rules and counters on every store."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from runtime.domain.entities.limits import LimitRule, PriceRule
from runtime.domain.errors import InvalidValue, LimitNotFound, PriceNotFound
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import KeyId, LineId, ProjectId
from runtime.domain.value_objects.limits import (
    NOTHING_SPENT,
    Budget,
    Limits,
    LimitScope,
    Period,
    Price,
    Rates,
    Spent,
    Subject,
)
from tests.contracts.conftest import Storage
from tests.contracts.samples import (
    ALL,
    ANN,
    BOB,
    NOON,
    OTHER_PROJECT,
    PROJECT,
    a_line,
    a_run,
    a_version,
    all_of,
    minutes_past_noon,
    store,
)

DAY = date(2026, 1, 1)
WHOLE = Limits(Rates(60, 100_000, 5), Budget(10**12, Decimal("0.000000001"), Period.DAY))


def subject(scope: LimitScope, id: str, project: ProjectId = PROJECT) -> Subject:
    return Subject(project, scope, id)


def a_rule(of: Subject, limits: Limits = WHOLE, *, minute: float = 0) -> LimitRule:
    return LimitRule(
        subject=of,
        owner_id=ANN,
        limits=limits,
        updated_at=minutes_past_noon(minute),
        updated_by=BOB,
    )


def a_price(model: str = "openai/gpt-4o", *, minute: float = 0, input: str = "2.5") -> PriceRule:
    return PriceRule(
        model=model,
        project_id=PROJECT,
        owner_id=ANN,
        price=Price(Decimal(input), Decimal(10), Decimal("0.0375")),
        updated_at=minutes_past_noon(minute),
    )


async def put(uow: UnitOfWorkFactory, *rules: LimitRule | PriceRule) -> None:
    for rule in rules:
        async with uow(all_of(rule.project_id)) as work:
            if isinstance(rule, LimitRule):
                await work.limits.put(rule)
            else:
                await work.prices.put(rule)
            await work.commit()


KEY, LINE = subject(LimitScope.KEY, "key_1"), subject(LimitScope.AGENT, "line_1")
HOUSE = subject(LimitScope.PROJECT, PROJECT)


@pytest.mark.parametrize(
    "limits", [WHOLE, Limits(Rates(requests_per_minute=1)), Limits(budget=Budget(tokens=0))]
)
async def test_a_rule_reads_back_the_same(uow: UnitOfWorkFactory, limits: Limits) -> None:
    rule = a_rule(KEY, limits)
    await put(uow, rule)

    async with uow(ALL) as work:
        assert await work.limits.get(KEY) == rule


async def test_the_last_rule_counts_and_is_gone_when_it_is_removed(storage: Storage) -> None:
    second = a_rule(KEY, Limits(Rates(requests_per_minute=2)))
    await put(storage.uow, a_rule(KEY), second)
    assert (await storage.ledger.rules())[0] == [second]
    async with storage.uow(ALL) as work:
        await work.limits.remove(await work.limits.get(KEY))
        await work.commit()

    async with storage.uow(ALL) as work:
        with pytest.raises(LimitNotFound):
            await work.limits.get(KEY)
    assert await storage.ledger.rules() == ([], [])


async def test_rules_are_shown_to_their_owners_and_the_project_s_to_everybody(
    uow: UnitOfWorkFactory,
) -> None:
    rules = [a_rule(each, minute=n) for n, each in enumerate((KEY, LINE, HOUSE))]
    await put(uow, *rules, a_rule(subject(LimitScope.KEY, "key_1", OTHER_PROJECT)))

    for scope, shown in (
        (ALL, rules[::-1]),
        (Scope(PROJECT, ANN), rules[::-1]),
        (Scope(PROJECT, BOB), rules[2:]),
    ):
        async with uow(scope) as work:
            assert (await work.limits.page(limit=5, after=None)).items == shown
            assert [await _is_shown(work.limits.get(rule.subject)) for rule in rules] == [
                rule in shown for rule in rules
            ]


async def test_lists_go_on_where_the_page_ended(uow: UnitOfWorkFactory) -> None:
    subjects = [subject(LimitScope.KEY, f"key_{n}") for n in range(5)]
    await put(uow, *(a_rule(each, minute=n // 2) for n, each in enumerate(subjects)))
    await put(uow, *(a_price(f"a/{n}", minute=n // 2) for n in range(5)))
    keys: list[str] = []
    models: list[str] = []
    async with uow(ALL) as work:
        after = None
        while page := await work.limits.page(limit=2, after=after):
            keys += [rule.subject.id for rule in page.items]
            if (after := page.next_cursor) is None:
                break
        while prices := await work.prices.page(limit=2, after=after):
            models += [rule.model for rule in prices.items]
            if (after := prices.next_cursor) is None:
                break
        with pytest.raises(InvalidValue):
            await work.limits.page(limit=2, after="garbage")

    assert keys == ["key_4", "key_3", "key_2", "key_1", "key_0"]
    assert models == ["a/4", "a/3", "a/2", "a/1", "a/0"]


async def test_a_price_is_its_project_s_and_replaced_as_a_whole(storage: Storage) -> None:
    first, second = a_price(), a_price(input="0.000000001")
    await put(storage.uow, first)
    async with storage.uow(ALL) as work:
        assert await work.prices.get("openai/gpt-4o") == first
    await put(storage.uow, second)
    assert (await storage.ledger.rules())[1] == [second]
    async with storage.uow(all_of(OTHER_PROJECT)) as work:
        with pytest.raises(PriceNotFound):
            await work.prices.get("openai/gpt-4o")
        assert (await work.prices.page(limit=5, after=None)).items == []
    async with storage.uow(ALL) as work:
        await work.prices.remove(second)
        await work.commit()
    assert (await storage.ledger.rules())[1] == []


async def test_runs_are_charged_once_to_all_that_they_count_for(storage: Storage) -> None:
    cost = Decimal("0.000000375")
    first = a_run(usage=Usage(100, 20, 3, 4), cost=cost)
    second = a_run(usage=Usage(10, 2), cost=None, key_id=None)
    await storage.run_log.write([first, second])
    await storage.run_log.write([first])

    key, line, house = await storage.ledger.spent([(KEY, None), (LINE, DAY), (HOUSE, DAY)])
    assert key == Spent(120, cost)
    assert line == house == Spent(132, cost)
    async with storage.uow(ALL) as work:
        (day,) = await work.usage.days(LimitScope.PROJECT, DAY, DAY)
    assert (day.runs, day.input_tokens, day.output_tokens, day.cached_tokens) == (2, 110, 22, 3)
    assert (day.unpriced_tokens, day.cost, day.day) == (12, cost, DAY)


async def test_what_is_spent_is_counted_from_a_day_on(storage: Storage) -> None:
    usage = Usage(1, 0)
    days = [0, 60 * 24, 60 * 48]
    await storage.run_log.write(
        [a_run(usage=usage, cost=Decimal(1), ended_at=minutes_past_noon(each)) for each in days]
    )
    asked: Sequence[tuple[Subject, date | None]] = [
        (KEY, None),
        (KEY, date(2026, 1, 2)),
        (KEY, date(2026, 1, 4)),
        (subject(LimitScope.KEY, "key_1", OTHER_PROJECT), None),
    ]

    found = await storage.ledger.spent(asked)
    assert found == [Spent(3, Decimal(3)), Spent(2, Decimal(2)), NOTHING_SPENT, NOTHING_SPENT]


async def test_writers_at_once_lose_no_sum(storage: Storage) -> None:
    runs = [a_run(usage=Usage(1, 1), cost=Decimal("0.1")) for _ in range(40)]
    await asyncio.gather(*(storage.run_log.write(runs[n : n + 4]) for n in range(0, 40, 4)))

    assert await storage.ledger.spent([(KEY, None)]) == [Spent(80, Decimal(4))]


async def test_usage_is_shown_to_the_owners_of_key_and_line(storage: Storage) -> None:
    line = a_line()
    await store(storage.uow, line, a_version(line))
    run = a_run(line_id=line.id, key_id=KeyId("key_of_nobody"))
    await storage.run_log.write([run, replace(run, id=a_run().id, line_id=LineId("line_gone"))])

    for user, lines, keys in ((ANN, [line.id], 0), (BOB, [], 0)):
        async with storage.uow(Scope(PROJECT, user)) as work:
            by_line = await work.usage.days(LimitScope.AGENT, DAY, DAY)
            assert [used.subject.id for used in by_line] == lines
            assert len(await work.usage.days(LimitScope.KEY, DAY, DAY)) == keys
            assert len(await work.usage.days(LimitScope.PROJECT, DAY, DAY)) == 1
    async with storage.uow(ALL) as work:
        assert len(await work.usage.days(LimitScope.AGENT, DAY, DAY)) == 2
        assert await work.usage.days(LimitScope.AGENT, date(2025, 1, 1), date(2025, 12, 31)) == []
    assert NOON.date() == DAY


async def _is_shown(reading: Coroutine[Any, Any, LimitRule]) -> bool:
    try:
        await reading
    except LimitNotFound:
        return False
    return True
