"""What a caller sees when the model's provider misbehaves, and what the provider sees of callers.

The provider is a real server that fails on demand; see `tests/upstream`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.server import Served, serving
from tests.upstream import FakeUpstream

KEY = "sk-canary-0123456789"


@dataclass
class Setup:
    runtime: Served
    upstream: FakeUpstream

    async def ask(self, text: str, *, stream: bool = False) -> httpx.Response:
        body = {
            "model": "assistant",
            "stream": stream,
            "messages": [{"role": "user", "content": text}],
        }
        return await self.runtime.http.post("/v1/chat/completions", json=body)


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path,
            openai_base_url=upstream.base_url,
            openai_api_key=KEY,
            first_token_timeout_s=0.5,
            idle_timeout_s=0.5,
            answer_timeout_s=1.5,
            model_attempts=3,
        ) as runtime,
    ):
        yield Setup(runtime, upstream)


BEFORE_THE_FIRST_TOKEN = [
    ("fault:500", 502, "upstream_error"),
    ("fault:503", 502, "upstream_error"),
    ("fault:401", 502, "upstream_auth_failed"),
    ("fault:403", 502, "upstream_auth_failed"),
    ("fault:400", 400, "upstream_invalid_request"),
    ("fault:quota", 429, "insufficient_quota"),
    ("fault:slow-headers", 504, "upstream_timeout"),
    ("fault:silent-headers", 504, "upstream_timeout"),
    ("fault:garbage", 502, "upstream_error"),
    ("fault:redirect", 502, "upstream_error"),
    ("fault:huge-line", 502, "upstream_error"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "status", "code"), BEFORE_THE_FIRST_TOKEN)
async def test_a_fault_before_the_first_token_keeps_its_status(
    setup: Setup, fault: str, status: int, code: str, stream: bool
) -> None:
    response = await setup.ask(fault, stream=stream)
    error = response.json()["error"]

    assert (response.status_code, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert KEY not in response.text
    assert setup.upstream.base_url not in response.text
    await nothing_runs(setup)


async def test_a_provider_s_wish_to_wait_is_passed_on(setup: Setup) -> None:
    from tests.upstream import faults

    setup.upstream.script(faults.rate_limited(**{"Retry-After": "30"}))
    response = await setup.ask("Hello")

    assert response.status_code == 429
    assert response.headers["Retry-After"] == "30"
    assert len(setup.upstream.requests) == 1


@pytest.mark.parametrize("fault", ["fault:401", "fault:quota"])
async def test_what_no_repetition_mends_says_so(setup: Setup, fault: str) -> None:
    response = await setup.ask(fault)

    assert response.headers["x-should-retry"] == "false"
    assert len(setup.upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_burst_of_failures_is_ridden_out(setup: Setup, stream: bool) -> None:
    response = await setup.ask("fault:burst", stream=stream)

    assert response.status_code == 200
    assert len(setup.upstream.requests) == 3


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("fault:stall", "upstream_timeout"),
        ("fault:cut", "upstream_error"),
        ("fault:reset", "upstream_error"),
        ("fault:no-finish", "upstream_error"),
        ("fault:garbage-json", "upstream_error"),
        ("fault:error-event", "upstream_error"),
        ("fault:cut-tool-call", "upstream_error"),
    ],
)
async def test_a_fault_in_mid_stream_is_the_last_event_and_nothing_looks_complete(
    setup: Setup, fault: str, code: str
) -> None:
    response = await setup.ask(fault, stream=True)
    events = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]

    if response.status_code == 200:
        assert json.loads(events[-1])["error"]["code"] == code
        assert "[DONE]" not in events
        finishes = [
            choice["finish_reason"]
            for event in events[:-1]
            for choice in json.loads(event)["choices"]
        ]
        assert set(finishes) <= {None}
    else:
        assert response.json()["error"]["code"] == code
    assert len(setup.upstream.requests) == 1
    await nothing_runs(setup)


@pytest.mark.parametrize("fault", ["fault:bytewise", "fault:no-done"])
async def test_a_provider_s_oddities_do_not_show(setup: Setup, fault: str) -> None:
    response = await setup.ask(fault, stream=True)
    assert response.text.endswith("data: [DONE]\n\n")


async def test_the_sdk_raises_on_a_broken_stream(setup: Setup) -> None:
    stream = await setup.runtime.openai.chat.completions.create(
        model="assistant", messages=[{"role": "user", "content": "fault:cut"}], stream=True
    )
    with pytest.raises(openai.APIError) as error:
        async for _ in stream:
            pass
    assert error.value.code == "upstream_error"


async def test_a_failed_run_is_recorded_as_one(setup: Setup) -> None:
    await setup.ask("fault:500")
    (run,) = (await setup.runtime.get("/v1/runs"))["data"]

    assert (run["status"], run["error_code"]) == ("failed", "upstream_error")
    assert (await setup.runtime.get("/v1/health"))["checks"]["llm_proxy"]["status"] == "degraded"


@pytest.mark.parametrize(
    ("stream", "text"), [(False, "fault:silent-headers"), (True, "delay:200 words:500")]
)
async def test_a_client_that_leaves_closes_the_call_to_the_provider(
    setup: Setup, stream: bool, text: str
) -> None:
    body: dict[str, Any] = {
        "model": "assistant",
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
    }
    asking = asyncio.create_task(read_forever(setup.runtime, body))
    await setup.upstream.arrived.wait()
    asking.cancel()

    async with asyncio.timeout(1):
        await setup.upstream.requests[0].closed.wait()
    await nothing_runs(setup)
    (run,) = (await setup.runtime.get("/v1/runs"))["data"]
    assert run["status"] == "cancelled"


async def read_forever(runtime: Served, body: dict[str, Any]) -> None:
    async with (
        httpx.AsyncClient(base_url=runtime.url, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        async for _ in response.aiter_bytes():
            pass


async def nothing_runs(setup: Setup) -> None:
    """Every place is free again, within a moment of the answer."""
    health = await setup.runtime.until(lambda h: h["metrics"]["running"] == 0, "/v1/health")
    assert health["metrics"]["running"] == 0
