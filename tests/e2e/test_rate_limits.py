"""What a limited caller sees, and what a budget stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.e2e.process import process
from tests.e2e.server import Json, Served, serving
from tests.postgres import fresh_database
from tests.upstream import FakeUpstream

TOKEN = "the-platform-s-token"
ENDLESS = "delay:10 words:100000"
HEADERS = tuple(f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset"))


def asked(text: str = "Hello", **more: Any) -> Json:  # noqa: ANN401 - a JSON body
    return {"model": "assistant", "messages": [{"role": "user", "content": text}], **more}


class Setup:
    def __init__(self, runtime: Served, upstream: FakeUpstream) -> None:
        self.runtime = runtime
        self.upstream = upstream

    async def put(self, path: str, body: Json, status: int = 200) -> Json:
        response = await self.runtime.http.put(path, json=body)
        assert response.status_code == status, response.text
        found: Json = response.json()
        return found

    async def key(self) -> tuple[str, AsyncOpenAI]:
        made = await self.runtime.post("/v1/keys", {"name": "CI"}, status=201)
        client = AsyncOpenAI(base_url=f"{self.runtime.url}/v1", api_key=made["key"], max_retries=0)
        return made["id"], client

    async def chat(self, **more: Any) -> httpx.Response:  # noqa: ANN401 - a JSON body
        return await self.runtime.http.post("/v1/chat/completions", json=asked(**more))


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path, token=TOKEN, openai_base_url=upstream.base_url, openai_api_key="sk-test"
        ) as runtime,
    ):
        yield Setup(runtime, upstream)


async def test_the_sdk_sees_a_rate_limit_error_with_openai_s_headers(setup: Setup) -> None:
    id, client = await setup.key()
    await setup.put(f"/v1/limits/key/{id}", {"requests_per_minute": 2})
    async with client:
        raw = client.chat.completions.with_raw_response
        first = await raw.create(model="assistant", messages=asked()["messages"])
        stream = await raw.create(model="assistant", messages=asked()["messages"], stream=True)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model="assistant", messages=asked()["messages"])

    assert [first.headers[name] for name in HEADERS[:2]] == ["2", "1"]
    assert [stream.headers[name] for name in HEADERS[:2]] == ["2", "0"]
    error, headers = refused.value, refused.value.response.headers
    assert (error.code, error.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert "this API key on requests per minute: limit 2" in str(error)
    assert [headers[name] for name in HEADERS[:2]] == ["2", "0"]
    assert headers[HEADERS[2]].startswith("1m") or headers[HEADERS[2]].endswith("s")
    assert 0 < int(headers["retry-after"]) <= 61
    assert 0 < int(headers["retry-after-ms"]) <= 61_000
    assert "x-should-retry" not in headers


async def test_whoever_has_no_limit_gets_no_headers(setup: Setup) -> None:
    id, client = await setup.key()
    await setup.put(f"/v1/limits/key/{id}", {"requests_per_minute": 2})
    async with client:
        response = await setup.chat()

    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("x-ratelimit")]


async def test_tokens_are_reserved_and_then_settled(setup: Setup) -> None:
    await setup.put("/v1/limits/project/default", {"tokens_per_minute": 1_000})
    first = await setup.chat(text="Hello", max_tokens=500)
    second = await setup.chat(text="Hello", max_tokens=500)
    used = first.json()["usage"]["total_tokens"]
    large = await setup.chat(text="Hello", max_tokens=5_000)

    assert int(first.headers["x-ratelimit-remaining-tokens"]) == 1_000 - 502
    assert int(second.headers["x-ratelimit-remaining-tokens"]) == 1_000 - 502 - used
    assert large.status_code == 429
    assert large.headers["x-should-retry"] == "false"
    assert large.json()["error"]["code"] == "rate_limit_exceeded"


async def test_a_place_is_free_as_soon_as_the_answer_is_there(setup: Setup) -> None:
    await setup.put("/v1/limits/agent/assistant", {"concurrent_runs": 1})
    for _ in range(5):
        assert (await setup.chat()).status_code == 200
    async with setup.runtime.http.stream(
        "POST", "/v1/chat/completions", json=asked(ENDLESS, stream=True)
    ) as going_on:
        await anext(going_on.aiter_lines())
        refused = await setup.chat()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    await setup.runtime.until(lambda health: not health["metrics"]["running"], "/v1/health")
    assert (await setup.chat()).status_code == 200


async def test_a_used_up_budget_refuses_and_tells_what_was_spent(setup: Setup) -> None:
    path = "/v1/limits/project/default"
    await setup.put(path, {"budget": {"tokens": 5, "period": "total"}})
    first = await setup.chat()
    refused = await setup.chat()
    budget = (await setup.runtime.get(path))["budget"]

    assert first.status_code == 200
    assert refused.status_code == 429
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert budget["spent_tokens"] == first.json()["usage"]["total_tokens"]
    assert (budget["exhausted"], budget["resets_at"]) == (True, None)


async def test_a_budget_ends_a_stream_and_closes_the_model_call(setup: Setup) -> None:
    path = "/v1/limits/project/default"
    await setup.put(path, {"budget": {"tokens": 200}})
    frames = []
    async with setup.runtime.http.stream(
        "POST", "/v1/chat/completions", json=asked(ENDLESS, stream=True)
    ) as response:
        async for line in response.aiter_lines():
            frames.append(line)
    ended = monotonic()
    (call,) = setup.upstream.requests
    await asyncio.wait_for(call.closed.wait(), 1)
    budget = (await setup.runtime.get(path))["budget"]
    (run,) = (await setup.runtime.get("/v1/runs"))["data"]

    assert monotonic() - ended < 1
    last = [frame for frame in frames if frame.startswith("data: ")][-1]
    assert '"code":"insufficient_quota"' in last
    assert (run["status"], run["error_code"]) == ("failed", "insufficient_quota")
    assert run["usage"]["estimated"]
    assert 200 < budget["spent_tokens"] == run["usage"]["total_tokens"] < 230


async def test_what_a_client_that_left_had_streamed_is_charged(setup: Setup) -> None:
    async with setup.runtime.http.stream(
        "POST", "/v1/chat/completions", json=asked(ENDLESS, stream=True)
    ) as response:
        lines = response.aiter_lines()
        for _ in range(20):
            await anext(lines)
    page = await setup.runtime.until(lambda found: bool(found["data"]), "/v1/runs")

    assert page["data"][0]["status"] == "cancelled"
    assert page["data"][0]["usage"]["output_tokens"] > 5
    (day,) = (await setup.runtime.get("/v1/usage"))["data"]
    assert day["total_tokens"] == page["data"][0]["usage"]["total_tokens"]


async def test_a_run_costs_what_its_model_s_price_says(setup: Setup) -> None:
    unpriced = await setup.chat()
    await setup.put("/v1/prices/openai/gpt-4*", {"input": 2, "output": 8, "cached_input": 0.5})
    await setup.put("/v1/prices/*", {"input": 1_000, "output": 1_000})
    priced = await setup.chat()
    usage = priced.json()["usage"]
    newest, oldest = (await setup.runtime.get("/v1/runs"))["data"]
    (day,) = (await setup.runtime.get("/v1/usage?by=project"))["data"]

    cost = (usage["prompt_tokens"] * 2 + usage["completion_tokens"] * 8) / 1e6
    assert newest["cost_usd"] == pytest.approx(cost)
    assert oldest["cost_usd"] is None
    assert day["cost_usd"] == pytest.approx(cost)
    assert day["unpriced_tokens"] == unpriced.json()["usage"]["total_tokens"]
    assert day["runs"] == 2


async def test_a_budget_in_money_takes_no_model_without_a_price(setup: Setup) -> None:
    await setup.put("/v1/limits/project/default", {"budget": {"cost_usd": 0.00001}})
    refused = await setup.chat()
    await setup.put("/v1/prices/openai/*", {"input": 1, "output": 1})
    answers = [(await setup.chat()).status_code for _ in range(12)]

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_unpriced")
    assert setup.upstream.requests
    assert answers[0] == 200
    assert answers[-1] == 429
    assert answers == sorted(answers)


async def embedded(setup: Setup, text: str = "one two three") -> httpx.Response:
    body = {"model": "demo", "input": text}
    return await setup.runtime.http.post("/v1/embeddings", json=body)


async def test_embeddings_count_against_limits_too(setup: Setup) -> None:
    rates = {"requests_per_minute": 2, "tokens_per_minute": 1_000, "concurrent_runs": 1}
    await setup.put("/v1/limits/project/default", rates)
    first, second, refused = [await embedded(setup) for _ in range(3)]

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")


async def test_embeddings_are_paid_from_budgets(setup: Setup) -> None:
    path = "/v1/limits/project/default"
    await setup.put(path, {"budget": {"cost_usd": 0.000003}})
    unpriced = await embedded(setup)
    await setup.put("/v1/prices/demo/demo", {"input": 1, "output": 0})
    first, refused = [await embedded(setup) for _ in range(2)]
    budget = (await setup.runtime.get(path))["budget"]

    assert (unpriced.status_code, unpriced.json()["error"]["code"]) == (403, "model_unpriced")
    assert (first.status_code, refused.status_code) == (200, 429)
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert budget["spent_tokens"] == first.json()["usage"]["total_tokens"] == 3


async def test_what_is_no_limit_is_refused(setup: Setup) -> None:
    for path, body, status in (
        ("limits/project/default", {}, 400),
        ("limits/project/default", {"requests_per_minute": 0}, 400),
        ("limits/project/default", {"requests_per_minute": "60"}, 400),
        ("limits/project/default", {"budget": {}}, 400),
        ("limits/project/default", {"budget": {"tokens": 1, "period": "week"}}, 400),
        ("limits/project/default", {"requests": 1}, 400),
        ("limits/project/elsewhere", {"requests_per_minute": 1}, 404),
        ("limits/user/ann", {"requests_per_minute": 1}, 400),
        ("limits/key/key_1", {"requests_per_minute": 1}, 404),
        ("limits/agent/nobody", {"requests_per_minute": 1}, 404),
        ("prices/gpt-4o", {"input": 1, "output": 1}, 400),
        ("prices/openai/gpt 4o", {"input": 1, "output": 1}, 400),
        ("prices/a/*****", {"input": 1, "output": 1}, 400),
        ("prices/openai/gpt-4o", {"input": -1, "output": 1}, 400),
        ("prices/openai/gpt-4o", {"input": 1}, 400),
    ):
        await setup.put(f"/v1/{path}", body, status)
    assert (await setup.runtime.get("/v1/limits"))["data"] == []
    assert (await setup.runtime.get("/v1/prices"))["data"] == []
    await setup.runtime.get("/v1/limits/project/default", status=404)
    await setup.runtime.get("/v1/prices/openai/gpt-4o", status=404)
    await setup.runtime.get("/v1/usage?since=2026-01-02&until=2026-01-01", status=400)


async def test_a_removed_limit_limits_nothing(setup: Setup) -> None:
    path = "/v1/limits/project/default"
    await setup.put(path, {"requests_per_minute": 1})
    assert [(await setup.chat()).status_code for _ in range(2)] == [200, 429]
    assert (await setup.runtime.http.delete(path)).status_code == 200

    assert (await setup.chat()).status_code == 200
    assert (await setup.runtime.http.delete(path)).status_code == 404


async def test_the_settings_limit_whoever_has_no_limits_of_their_own(tmp_path: Path) -> None:
    async with serving(tmp_path, rate_limit_agent_requests_per_minute=1) as runtime:
        first, second = [
            await runtime.http.post("/v1/chat/completions", json=asked()) for _ in range(2)
        ]
        scrape = (await runtime.http.get("/metrics")).text

    assert (first.status_code, second.status_code) == (200, 429)
    assert 'agent_runtime_limit_refusals_total{kind="requests",scope="agent"} 1.0' in scrape


async def test_two_replicas_admit_together_what_one_would(tmp_path: Path) -> None:
    with fresh_database() as url:
        async with AsyncExitStack() as opened:
            clients = []
            for name in ("one", "two"):
                folder = tmp_path / name
                folder.mkdir()
                replica = await opened.enter_async_context(
                    process(folder, RUNTIME_DATABASE_URL=url, RUNTIME_SECRET_KEY="s" * 32)
                )
                client = httpx.AsyncClient(base_url=replica.url, timeout=30)
                clients.append(await opened.enter_async_context(client))
            body = {"requests_per_minute": 200, "concurrent_runs": 1_000}
            await clients[0].put("/v1/limits/project/default", json=body)
            await asyncio.sleep(2.5)
            answers = await asyncio.gather(
                *(
                    clients[number % 2].post("/v1/chat/completions", json=asked())
                    for number in range(400)
                )
            )

    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) == 200
    assert statuses.count(429) == 200


async def test_a_budget_outlives_a_kill(tmp_path: Path) -> None:
    body = {"budget": {"tokens": 20, "period": "month"}}
    async with process(tmp_path) as runtime, httpx.AsyncClient(base_url=runtime.url) as client:
        await client.put("/v1/limits/project/default", json=body)
        while (await client.post("/v1/chat/completions", json=asked())).status_code == 200:
            pass
        before = (await client.get("/v1/limits/project/default")).json()["budget"]
    async with process(tmp_path) as runtime, httpx.AsyncClient(base_url=runtime.url) as client:
        refused = await client.post("/v1/chat/completions", json=asked())
        after = (await client.get("/v1/limits/project/default")).json()["budget"]

    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert after == before
    assert after["spent_tokens"] >= 20
