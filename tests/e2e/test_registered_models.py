"""From a registration to an agent's answer, with a provider that can misbehave."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream, faults

KEY, NEW_KEY = "canary-of-a-provider-s-key", "canary-of-the-next-key"
PROVIDERS = "/v1/providers"


@asynccontextmanager
async def world(folder: Path, **settings: Any) -> AsyncIterator[tuple[Served, FakeUpstream]]:  # noqa: ANN401
    async with FakeUpstream() as upstream:
        host = upstream.base_url.removeprefix("http://").removesuffix("/v1")
        settings = {"allowed_egress": [host], "model_attempts": 1, **settings}
        async with serving(folder, **settings) as runtime:
            yield runtime, upstream


async def register(runtime: Served, upstream: FakeUpstream, **fields: object) -> Json:
    body = {
        "id": "mine",
        "type": "openai",
        "base_url": upstream.base_url,
        "api_key": KEY,
        "default_model": "large",
        "models": [{"name": "large", "upstream_name": "vendor/large-2"}],
        **fields,
    }
    return await runtime.post(PROVIDERS, body, status=201)


async def agent(runtime: Served, model: str, name: str = "Bot") -> str:
    made = await runtime.publish(
        name=name, template_id="langgraph-simple-test", llm_config_id=model
    )
    return str(made["slug"])


async def patch(runtime: Served, path: str, **body: object) -> Json:
    response = await runtime.http.patch(f"{PROVIDERS}/{path}", json=body)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


def sent(upstream: FakeUpstream) -> tuple[str, str]:
    """The key and the model of the last request."""
    request = upstream.requests[-1]
    return request.headers["authorization"], json.loads(request.body)["model"]


async def test_an_agent_answers_by_a_provider_that_was_just_registered(tmp_path: Path) -> None:
    async with world(tmp_path) as (runtime, upstream):
        await register(runtime, upstream)
        tried = await runtime.post(f"{PROVIDERS}/mine/test")
        assert (tried["success"], tried["model"]) == (True, "vendor/large-2")
        assert sent(upstream) == (f"Bearer {KEY}", "vendor/large-2")

        for name, model, called in (
            ("One", "mine", "vendor/large-2"),
            ("Two", "mine/large", "vendor/large-2"),
            ("Three", "mine/unregistered", "unregistered"),
        ):
            slug = await agent(runtime, model, name)
            assert "You said" in await runtime.ask(slug)
            assert sent(upstream) == (f"Bearer {KEY}", called)


async def test_a_model_of_the_gateway_is_named_by_its_id_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TEST_S_API_KEY", KEY)
    async with world(tmp_path) as (runtime, upstream):
        body = {
            "model_id": "gpt-4",
            "provider": "openai",
            "provider_model_id": "gpt-4-turbo",
            "api_key_env_var": "A_TEST_S_API_KEY",
            "base_url": upstream.base_url,
        }
        await runtime.post("/api/models", body)
        assert "You said" in await runtime.ask(await agent(runtime, "gpt-4"))
        assert sent(upstream) == (f"Bearer {KEY}", "gpt-4-turbo")

        gone = await runtime.http.delete("/api/models/gpt-4")
        assert (gone.status_code, gone.json()["details"]["used_by"]) == (409, ["bot@v1"])


async def test_a_key_that_is_replaced_is_sent_from_then_on(tmp_path: Path) -> None:
    async with world(tmp_path) as (runtime, upstream):
        await register(runtime, upstream)
        slug = await agent(runtime, "mine")
        upstream.script(faults.status(401), faults.status(401))
        tried = await runtime.post(f"{PROVIDERS}/mine/test")
        with pytest.raises(openai.APIStatusError) as failed:
            await runtime.ask(slug)

        assert (tried["success"], tried["error"]["code"]) == (False, "upstream_auth_failed")
        assert (failed.value.status_code, failed.value.code) == (502, "upstream_auth_failed")
        assert KEY not in json.dumps(tried) + failed.value.message
        await patch(runtime, "mine", api_key=NEW_KEY)
        await runtime.ask(slug)
        assert sent(upstream)[0] == f"Bearer {NEW_KEY}"


async def test_a_model_out_of_service_leaves_its_place_to_its_fallback(tmp_path: Path) -> None:
    async with world(tmp_path) as (runtime, upstream):
        await register(runtime, upstream)
        slug = await agent(runtime, "mine/large")
        await patch(runtime, "mine/models/large", enabled=False)
        with pytest.raises(openai.APIStatusError) as refused:
            await runtime.ask(slug)
        assert (refused.value.status_code, refused.value.code) == (503, "model_disabled")

        await patch(runtime, "mine/models/large", fallbacks=[{"model": "demo"}])
        assert "[demo]" in await runtime.ask(slug)
        await patch(runtime, "mine/models/large", enabled=True)
        assert "[demo]" not in await runtime.ask(slug)
        upstream.script(faults.status(500))
        assert "[demo]" in await runtime.ask(slug)


async def test_a_removed_provider_serves_nobody_any_more(tmp_path: Path) -> None:
    async with world(tmp_path) as (runtime, upstream):
        await register(runtime, upstream)
        assert (await runtime.http.delete(f"{PROVIDERS}/mine")).status_code == 200
        body = {"name": "Bot", "template_id": "langgraph-simple-test", "llm_config_id": "mine"}
        answer = await runtime.post("/v1/agents", body, status=400)

        assert "the providers are: demo" in answer["message"]
        await runtime.post(f"{PROVIDERS}/mine/test", status=404)
        assert upstream.requests == []


async def test_why_a_provider_can_not_be_called_shows_at_its_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TEST_S_API_KEY", KEY)
    async with world(tmp_path) as (runtime, upstream):
        await register(runtime, upstream, api_key=None, api_key_env="A_TEST_S_API_KEY")
        monkeypatch.delenv("A_TEST_S_API_KEY")
        tried = await runtime.post(f"{PROVIDERS}/mine/test")

        assert tried["success"] is False
        assert tried["error"]["message"].startswith("Missing API key: Environment variable A_TEST")


async def test_a_key_goes_to_no_other_host(tmp_path: Path) -> None:
    async with world(tmp_path) as (runtime, upstream), FakeUpstream() as other:
        await register(runtime, upstream)
        upstream.script(faults.redirect(other.base_url + "/chat/completions"))
        tried = await runtime.post(f"{PROVIDERS}/mine/test")

        assert tried["success"] is False
        assert other.requests == []


async def test_a_provider_that_the_operator_switched_off_is_no_fault(tmp_path: Path) -> None:
    table = {"type": "demo", "enabled": False}
    async with serving(tmp_path, providers={"house": table}, default_model="demo") as runtime:
        health = await runtime.get("/v1/health")
        assert health["checks"]["llm_proxy"]["status"] == "healthy"


async def test_operators_tables_are_called_with_their_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_KEY", KEY)
    async with FakeUpstream() as upstream:
        table = {
            "type": "openai",
            "base_url": upstream.base_url,
            "api_key_env": "HOUSE_KEY",
            "default_model": "large",
            "models": {"large": {"upstream_name": "vendor/large-2"}},
        }
        async with serving(tmp_path, providers={"house": table}) as runtime:
            listed = (await runtime.get(PROVIDERS))["data"]
            assert [each["id"] for each in listed] == ["house", "demo"]
            assert listed[0]["key"] == {"source": "environment", "variable": "HOUSE_KEY"}
            # The first one is that of agents which name no model.
            assert "You said" in await runtime.ask("assistant")
            assert sent(upstream) == (f"Bearer {KEY}", "vendor/large-2")
