"""A provider goes down under load: who calls an agent notices nothing, the metrics say it all."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.server import Served, serving
from tests.scrape import Scrape
from tests.upstream import FakeUpstream, faults

CALLS = 120
AT_ONCE = 24
TEXT = "one two three four five"


@pytest.fixture
async def main() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def spare() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


def providers(
    main: FakeUpstream, spare: FakeUpstream | None = None, *, recovery_s: float = 0.5
) -> dict[str, Any]:
    fallbacks = [{"model": "spare"}] if spare else []
    table: dict[str, Any] = {
        "main": {
            "type": "openai",
            "base_url": main.base_url,
            "api_key": "sk-main-0123456789",
            "default_model": "large",
            "models": {"large": {"upstream_name": "fake-1", "fallbacks": fallbacks}},
            "tuning": {"attempts": 1, "breaker_threshold": 5, "breaker_recovery_s": recovery_s},
        }
    }
    if spare:
        table["spare"] = {
            "type": "anthropic",
            "base_url": spare.base_url,
            "api_key": "sk-spare-0123456789",
            "default_model": "fake-2",
        }
    return table


async def ask(served: Served, number: int) -> str:
    """Every second one streams."""
    text = f"{TEXT} {number}"
    if number % 2:
        return await served.ask("assistant", text)
    stream = await served.openai.chat.completions.create(
        model="assistant", messages=[{"role": "user", "content": text}], stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    return "".join(pieces)


async def test_a_fallback_in_the_middle_of_an_outage_is_seen_in_the_metrics_only(
    tmp_path: Path, main: FakeUpstream, spare: FakeUpstream
) -> None:
    table = providers(main, spare)
    async with serving(tmp_path, providers=table, default_model="main/large") as served:
        served.openai = served.openai.with_options(max_retries=0)
        places = asyncio.Semaphore(AT_ONCE)
        before_it: list[int] = []

        async def one(number: int) -> str:
            async with places:
                if number == CALLS // 3:
                    main.outage = faults.status(503)
                    before_it.append(len(main.requests))
                return await ask(served, number)

        answers = await asyncio.gather(*(one(number) for number in range(CALLS)))
        assert answers == [f"You said: {TEXT} {number}" for number in range(CALLS)]
        assert len(spare.requests) > CALLS / 3

        failed = len(main.requests) - before_it[0]
        assert failed < AT_ONCE + 10, "the breaker keeps calls away from it"
        found = Scrape.of((await served.http.get("/metrics")).text)
        fallbacks = found.sum("agent_runtime_model_fallbacks_total", model="main/large")
        assert fallbacks == len(spare.requests)
        stats = await served.get("/api/streaming/stats")
        assert stats["streaming"]["errors"] == 0
        assert stats["providers"]["main"]["models"][0]["circuit"] in ("open", "half_open")

        main.outage = None
        await asyncio.sleep(0.6)
        before = len(spare.requests)
        assert await ask(served, 1) == f"You said: {TEXT} 1"
        assert await ask(served, 2) == f"You said: {TEXT} 2"
        assert len(spare.requests) == before
        stats = await served.get("/api/streaming/stats")
        assert stats["providers"]["main"]["models"][0]["circuit"] == "closed"


async def test_without_a_fallback_callers_are_told_to_come_back(
    tmp_path: Path, main: FakeUpstream
) -> None:
    async with serving(tmp_path, providers=providers(main, recovery_s=30)) as served:
        client = served.openai.with_options(max_retries=0)
        main.outage = faults.status(500)
        refusals: list[openai.APIStatusError] = []
        for number in range(20):
            with pytest.raises(openai.APIStatusError) as refused:
                await client.chat.completions.create(
                    model="assistant",
                    messages=[{"role": "user", "content": "Hello"}],
                    stream=bool(number % 2),
                )
            refusals.append(refused.value)
        assert [each.status_code for each in refusals] == [502] * 5 + [503] * 15
        assert {each.code for each in refusals[5:]} == {"upstream_unavailable"}
        assert all(int(each.response.headers["retry-after"]) >= 1 for each in refusals[5:])
        assert len(main.requests) == 5


async def test_one_of_many_callers_is_the_probe(tmp_path: Path, main: FakeUpstream) -> None:
    async with serving(tmp_path, providers=providers(main)) as served:
        served.openai = served.openai.with_options(max_retries=0)
        main.outage = faults.status(500)
        for number in range(5):
            with pytest.raises(openai.InternalServerError):
                await ask(served, number)
        main.outage = faults.slow_headers
        await asyncio.sleep(0.6)
        asked = len(main.requests)
        main.arrived.clear()
        probe = asyncio.create_task(ask(served, 0))
        await main.arrived.wait()
        others = await asyncio.gather(*(ask(served, 1) for _ in range(10)), return_exceptions=True)
        assert all(isinstance(each, openai.InternalServerError) for each in others)
        assert len(main.requests) == asked + 1
        probe.cancel()
