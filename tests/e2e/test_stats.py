"""`GET /api/streaming/stats` tells what went on, of the caller's project only."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import jwt
import openai
import pytest

from tests.e2e.server import Json, Served, serving
from tests.e2e.talk import talking
from tests.upstream import FakeUpstream

SECRET = "a-secret-that-only-the-tests-know-of"
STATS = "/api/streaming/stats"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def runtime(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Served]:
    async with serving(tmp_path, openai_base_url=upstream.base_url, model_attempts=1) as served:
        yield served


async def test_requests_errors_tokens_and_latencies_are_counted(runtime: Served) -> None:
    await runtime.ask("assistant", "one two three")
    with pytest.raises(openai.InternalServerError):
        await runtime.openai.with_options(max_retries=0).chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "fault:500"}]
        )
    stats = await runtime.get(STATS)
    streaming = stats["streaming"]
    assert (streaming["total_requests"], streaming["errors"]) == (2, 1)
    assert streaming["error_rate"] == 0.5
    assert streaming["active_sessions"] == 0
    assert streaming["tokens"]["total"] > 0
    assert streaming["response_time_ms"].keys() == {"p50", "p95", "p99"}
    (model,) = stats["providers"]["openai"]["models"]
    assert (model["model"], model["circuit"]) == ("openai/gpt-4.1-mini", "closed")
    assert (model["requests"], model["errors"], model["last_error"]) == (2, 1, "upstream_error")
    assert stats["providers"]["openai"]["status"] == "degraded"
    assert stats["providers"]["demo"]["status"] == "healthy"


async def test_a_model_that_is_left_alone_is_told(runtime: Served) -> None:
    client = runtime.openai.with_options(max_retries=0)
    asked: Json = {"model": "assistant", "messages": [{"role": "user", "content": "fault:503"}]}
    for _ in range(5):
        with pytest.raises(openai.APIStatusError) as failed:
            await client.chat.completions.create(**asked)
        assert failed.value.status_code == 502
    with pytest.raises(openai.APIStatusError) as refused:
        await client.chat.completions.create(**asked)
    assert refused.value.status_code == 503
    assert refused.value.code == "upstream_unavailable"
    assert 25 <= int(refused.value.response.headers["retry-after"]) <= 30
    provider = (await runtime.get(STATS))["providers"]["openai"]
    assert provider["status"] == "unhealthy"
    assert provider["models"][0]["circuit"] == "open"
    metrics = (await runtime.http.get("/metrics")).text
    assert 'agent_runtime_model_breaker_open{model="openai/gpt-4.1-mini",project=""} 1.0' in metrics


async def test_a_project_sees_its_own_figures_and_only_admins_the_cost(tmp_path: Path) -> None:
    async with serving(tmp_path, jwt_secret=SECRET) as served:

        def client(user: str, role: str, project: str) -> httpx.AsyncClient:
            claims = {"sub": user, "roles": [role], "project_id": project, "exp": 2**32}
            token = jwt.encode(claims, SECRET, "HS256")
            headers = {"Authorization": f"Bearer {token}"}
            return httpx.AsyncClient(base_url=served.url, headers=headers)

        async with (
            client("eve", "viewer", "default") as viewer,
            client("ada", "admin", "default") as admin,
            client("ann", "admin", "elsewhere") as stranger,
        ):
            body: Json = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}
            assert (await viewer.post("/v1/chat/completions", json=body)).status_code == 200
            seen = [(await each.get(STATS)).json() for each in (viewer, admin, stranger)]
            assert [each["streaming"]["total_requests"] for each in seen] == [1, 1, 0]
            assert [each["streaming"]["cost_usd"] for each in seen] == [None, 0.0, 0.0]


async def test_connections_and_what_goes_on_in_them_are_counted(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        url = upstream.base_url
        async with serving(tmp_path, openai_base_url=url) as runtime:
            async with talking(runtime.url, "ann") as talk:
                await talk.say("chat_request", message="delay:20 words:1000", agent_id="assistant")
                await talk.until(lambda frame: frame["message_type"] == "request_accepted")
                websocket = (await runtime.get(STATS))["websocket"]
                assert websocket == {
                    "active_connections": 1,
                    "total_connections": 1,
                    "active_requests": 1,
                }
                metrics = (await runtime.http.get("/metrics")).text
                assert "agent_runtime_websocket_connections 1.0" in metrics
            gone = {"active_connections": 0, "total_connections": 1, "active_requests": 0}
            await runtime.until(lambda stats: stats["websocket"] == gone, STATS)
