"""The registry of providers over HTTP, in its three shapes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from runtime.domain.errors import ConcurrentChange
from runtime.domain.value_objects.identity import LOCAL_ADMIN
from runtime.domain.value_objects.ids import ProviderId
from runtime.infrastructure.repositories.base import metadata
from runtime.infrastructure.repositories.secrets import Rotated, rotate
from runtime.infrastructure.secrets import SecretBox
from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream, faults

KEY = "canary-of-a-provider-s-key"
SETTINGS_KEY = "canary-of-the-settings-key"
OLD_KEY, NEW_KEY = "the-old-key-of-the-runtime", "the-new-key-of-the-runtime"
PROVIDERS = "/v1/providers"


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, secret_key=OLD_KEY) as served:
        yield served


async def register(runtime: Served, id: str = "mine", **fields: object) -> Json:
    body = {"id": id, "type": "openai", "api_key": KEY, **fields}
    return await runtime.post(PROVIDERS, body, status=201)


async def refused(runtime: Served, method: str, path: str, body: object, status: int = 400) -> Json:
    response = await runtime.http.request(method, path, json=body)
    assert response.status_code == status, response.text
    found: Json = response.json()
    return found


async def everything(runtime: Served) -> str:
    async with runtime.container.engine().connect() as connection:
        rows = [(await connection.execute(select(each))).all() for each in metadata.sorted_tables]
    return str(rows)


async def test_a_provider_is_registered_read_changed_and_removed(runtime: Served) -> None:
    model = {"name": "vendor/large", "capabilities": {"vision": True}, "price": PRICE}
    made = await register(
        runtime,
        base_url="https://llm.test/v1",
        default_model="vendor/large",
        structured_output="json_object",
        tuning={"attempts": 1},
        models=[model],
    )

    assert made == await runtime.get(f"{PROVIDERS}/mine")
    assert made["key"] == {"source": "stored", "variable": None}
    assert (made["structured_output"], made["managed_by"]) == ("json_object", "project")
    (shown,) = made["models"]
    assert shown == await runtime.get(f"{PROVIDERS}/mine/models/vendor/large")
    assert (shown["id"], shown["price"]["output"]) == ("mine/vendor/large", 2)
    assert shown["capabilities"]["vision"] is True
    listed = await runtime.get(PROVIDERS)
    assert [(each["id"], each["managed_by"]) for each in listed["data"]] == [
        ("demo", "operator"),
        ("mine", "project"),
    ]
    changed = await refused(
        runtime, "PATCH", f"{PROVIDERS}/mine", {"base_url": None, "api_key": KEY}, 200
    )
    assert (changed["base_url"], changed["tuning"]["attempts"]) == (None, 1)
    gone = await refused(runtime, "DELETE", f"{PROVIDERS}/mine", None, 200)
    assert gone == {"id": "mine", "deleted": True}
    await runtime.get(f"{PROVIDERS}/mine", status=404)


PRICE = {"input": 1, "output": 2}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"type": "telegraph"}, "There are: anthropic, azure_openai, demo, huggingface, local, o"),
        ({"structured_output": "xml"}, "structured_output: Input should be 'json_schema'"),
        ({"models": [{"name": "a", "routing": "by_luck"}]}, "'first_healthy', 'least_latency'"),
        ({"base_url": "ftp://x.test"}, "begins with http:// or https://"),
        ({"base_url": "https://me:secret@x.test"}, "neither credentials"),
        ({"base_url": "https://x.test/v1\n"}, "nor blanks"),
        ({"api_key_env": "OPENAI_API_KEY"}, "or name it in api_key_env"),
        ({"api_key": None, "api_key_env": "RUNTIME_TOKEN"}, "may not be named"),
        ({"api_key": None, "api_key_env": "PATH"}, "may not be named"),
        ({"api_key": None, "api_key_env": "NOT_SET_API_KEY"}, "Missing API key: Environment"),
        ({"api_key": None}, "needs a key"),
        ({"id": "types"}, "it has a route"),
        ({"options": {"colour": 1}}, "no option 'colour'"),
        ({"models": [{"name": "a"}, {"name": "a"}]}, "named twice"),
        ({"models": [{"name": "a", "fallbacks": [{"model": "x"}]}]}, "No provider serves"),
        ({"models": [{"name": "a*", "price": PRICE}]}, "can't have a price"),
        ({"tuning": {"connect_s": 0}}, "tuning.connect_s"),
    ],
)
async def test_bad_input_is_told_with_what_there_is(
    runtime: Served, body: Json, message: str
) -> None:
    whole = {"id": "mine", "type": "openai", "api_key": KEY, **body}
    answer = await refused(runtime, "POST", PROVIDERS, whole)

    assert message in answer["message"]
    assert "secret" not in json.dumps(answer)
    await runtime.get(f"{PROVIDERS}/mine", status=404)


@pytest.mark.parametrize(
    "base_url", ["http://169.254.169.254/latest", "http://127.0.0.1:9/v1", "https://x.test:22/v1"]
)
async def test_addresses_obey_the_rules_of_outgoing_calls(runtime: Served, base_url: str) -> None:
    body = {"id": "mine", "type": "openai", "api_key": KEY, "base_url": base_url}
    answer = await refused(runtime, "POST", PROVIDERS, body, 403)
    assert answer["details"]["code"] == "egress_refused"

    await register(runtime)
    change = {"base_url": base_url, "api_key": KEY}
    await refused(runtime, "PATCH", f"{PROVIDERS}/mine", change, 403)


async def test_a_change_on_top_of_another_s_gets_412(runtime: Served) -> None:
    etag = (await runtime.http.post(PROVIDERS, json={"id": "a", "type": "demo"})).headers["etag"]
    path = f"{PROVIDERS}/a"
    for method, where, body in (
        ("PUT", f"{path}/models/x", {}),
        ("PATCH", path, {"enabled": False}),
        ("PATCH", f"{path}/models/x", {"weight": 2}),
        ("DELETE", f"{path}/models/x", None),
        ("DELETE", path, None),
    ):
        stale = await runtime.http.request(method, where, json=body, headers={"If-Match": '"0"'})
        assert (stale.status_code, stale.json()["details"]["etag"]) == (412, etag), method
        done = await runtime.http.request(method, where, json=body, headers={"If-Match": etag})
        assert done.status_code == 200, done.text
        etag = (await runtime.http.get(path)).headers.get("etag", "")


async def test_what_an_agent_names_is_not_removed(runtime: Served) -> None:
    path = f"{PROVIDERS}/mine"
    await register(runtime, models=[{"name": "b"}])
    await register(runtime, "other", models=[{"name": "a", "fallbacks": [{"model": "mine/b"}]}])
    for where in (path, f"{path}/models/b"):
        answer = await refused(runtime, "DELETE", where, None, 409)
        assert answer["details"]["used_by"] == ["other/a"]

    await refused(runtime, "PUT", f"{PROVIDERS}/other/models/a", {}, 200)
    await refused(runtime, "DELETE", path, None, 200)
    answer = await refused(runtime, "DELETE", f"{PROVIDERS}/demo", None, 409)
    assert answer["details"]["code"] == "provider_read_only"


async def test_a_bad_key_shows_at_the_test_call(tmp_path: Path) -> None:
    async with (
        FakeUpstream(*([faults.status(401)] * 3)) as upstream,
        serving(
            tmp_path, openai_base_url=upstream.base_url, openai_api_key=SETTINGS_KEY
        ) as runtime,
    ):
        answers = [
            await runtime.post(f"{PROVIDERS}/openai/test"),
            await runtime.get(f"{PROVIDERS}/health?probe=true"),
            await runtime.get("/api/streaming/providers/health"),
        ]
        right = await runtime.post(f"{PROVIDERS}/openai/test", {"model": "gpt-x"})

    tried, health, streaming = answers
    assert (tried["success"], tried["error"]["code"]) == (False, "upstream_auth_failed")
    states = {each["provider"]: each for each in health["data"]}
    assert (states["openai"]["status"], states["demo"]["status"]) == ("unhealthy", "healthy")
    assert streaming["status"] == "degraded"
    assert streaming["providers"]["openai"]["error"]["code"] == "upstream_auth_failed"
    assert (right["success"], right["model"]) == (True, "gpt-x")
    assert upstream.requests[-1].headers["authorization"] == f"Bearer {SETTINGS_KEY}"
    assert SETTINGS_KEY not in json.dumps(answers)


async def test_the_gateway_s_shape(runtime: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    model: dict[str, Any] = {
        "model_id": "gpt-4",
        "provider": "openai",
        "model_type": "chat",
        "display_name": "GPT-4",
        "capabilities": {"supports_function_calling": True, "max_tokens": 8192},
        "provider_model_id": "gpt-4-turbo",
        "api_key_env_var": "A_TEST_S_API_KEY",
        "some_other_field": 1,
    }
    failed = await refused(runtime, "POST", "/api/models", model)
    assert failed["success"] is False
    assert failed["error"] == "Missing API key: Environment variable A_TEST_S_API_KEY not set"
    assert failed["request_id"]

    monkeypatch.setenv("A_TEST_S_API_KEY", KEY)
    made = await runtime.post("/api/models", model)
    assert (made["success"], made["error"]) == (True, None)
    data = made["data"]
    assert (data["model_id"], data["provider_model_id"]) == ("gpt-4", "gpt-4-turbo")
    assert (data["api_key_env_var"], data["capabilities"]["max_tokens"]) == (
        "A_TEST_S_API_KEY",
        8192,
    )
    assert (await runtime.get("/api/models/gpt-4"))["data"] == data
    listed = (await runtime.get("/api/models"))["data"]["items"]
    assert [each["model_id"] for each in listed] == ["demo", "gpt-4"]
    provider = await runtime.get(f"{PROVIDERS}/gpt-4")
    assert provider["default_model"] == provider["models"][0]["name"] == "gpt-4-turbo"
    assert provider["key"] == {"source": "environment", "variable": "A_TEST_S_API_KEY"}
    unknown = await refused(runtime, "POST", "/api/models", {**model, "provider": "telegraph"})
    assert "There are: anthropic" in unknown["error"]
    again = await refused(runtime, "POST", "/api/models", model, 409)
    assert again["code"] == "provider_exists"
    gone = await refused(runtime, "DELETE", "/api/models/gpt-4", None, 200)
    assert gone["data"] == {"model_id": "gpt-4", "deleted": True}


async def test_the_streaming_door_s_shape(runtime: Served) -> None:
    body = {
        "provider_id": "my_openai",
        "provider_type": "openai",
        "model_name": "gpt-4",
        "api_key": KEY,
    }
    made = await runtime.post("/api/streaming/providers/register", body)
    assert made == {
        "success": True,
        "message": "Provider 'my_openai' registered.",
        "provider_id": "my_openai",
        "provider_type": "openai",
        "model_name": "gpt-4",
    }
    listed = await runtime.get("/api/streaming/providers")
    assert [each["provider_id"] for each in listed["providers"]] == ["demo", "my_openai"]
    again = await refused(runtime, "POST", "/api/streaming/providers/register", body, 409)
    assert again["success"] is False
    gone = await refused(runtime, "DELETE", "/api/streaming/providers/my_openai", None, 200)
    assert gone["provider_id"] == "my_openai"


async def test_a_registered_key_is_in_no_answer_and_no_row(runtime: Served) -> None:
    answers = [
        await register(runtime, models=[{"name": "a"}]),
        await runtime.get(PROVIDERS),
        await runtime.get(f"{PROVIDERS}/mine"),
        await runtime.get("/api/models"),
        await runtime.get("/api/streaming/providers"),
        await refused(runtime, "PATCH", f"{PROVIDERS}/mine", {"base_url": "https://x.test"}),
        await refused(runtime, "POST", PROVIDERS, {"id": 1, "api_key": [KEY]}),
    ]

    assert KEY not in json.dumps(answers)
    assert KEY not in await everything(runtime)


async def test_others_of_the_project_see_no_address(runtime: Served) -> None:
    await register(runtime, base_url="https://llm.test/v1")
    made = await runtime.post("/v1/keys", {"name": "v", "roles": ["viewer"]}, status=201)
    headers = {"Authorization": f"Bearer {made['key']}"}
    async with httpx.AsyncClient(base_url=runtime.url, headers=headers) as viewer:
        seen = [
            (await viewer.get(path)).text
            for path in (PROVIDERS, f"{PROVIDERS}/mine", "/api/models", "/api/models/mine")
        ]
        assert all("mine" in each and "llm.test" not in each for each in seen)
        assert (await viewer.post(f"{PROVIDERS}/mine/test")).status_code == 403


async def test_an_admin_s_key_is_not_the_operator(
    runtime: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TEST_S_API_KEY", KEY)
    made = await runtime.post("/v1/keys", {"name": "a", "roles": ["admin"]}, status=201)
    headers = {"Authorization": f"Bearer {made['key']}"}
    body = {"id": "mine", "type": "openai", "api_key_env": "A_TEST_S_API_KEY"}
    async with httpx.AsyncClient(base_url=runtime.url, headers=headers) as admin:
        elsewhere = {**body, "base_url": "https://collector.test/v1"}
        assert (await admin.post(PROVIDERS, json=elsewhere)).status_code == 403
        assert (await admin.post(PROVIDERS, json=body)).status_code == 201
        change = {"base_url": "https://collector.test/v1"}
        assert (await admin.patch(f"{PROVIDERS}/mine", json=change)).status_code == 403


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_stored_keys_are_sealed_again_under_a_new_key(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    if database == "postgres":
        url = str(request.getfixturevalue("fresh_postgres_url"))
    async with serving(tmp_path, secret_key=OLD_KEY, database_url=url) as runtime:
        await register(runtime, "a")
        await register(runtime, "b", base_url="https://llm.test/v1")
        await runtime.post(PROVIDERS, {"id": "c", "type": "demo"}, status=201)
        engine = runtime.container.engine()
        old, new = OLD_KEY.encode(), NEW_KEY.encode()
        assert await rotate(engine, SecretBox(new)) == Rotated(unreadable=2)
        uow = runtime.container.uow()
        async with uow(LOCAL_ADMIN.scope) as work:
            read_before = await work.providers.get(ProviderId("a"))
        assert await rotate(engine, SecretBox(new, [old])) == Rotated(renewed=2)
        async with uow(LOCAL_ADMIN.scope) as work:
            with pytest.raises(ConcurrentChange):
                await work.providers.save(read_before)
        assert await rotate(engine, SecretBox(new, [old])) == Rotated(current=2)
    async with serving(tmp_path, secret_key=NEW_KEY, database_url=url) as after:
        # It is opened to be checked with the changed options.
        for id in "ab":
            await refused(after, "PATCH", f"{PROVIDERS}/{id}", {"options": {}}, 200)
    async with serving(tmp_path, secret_key=OLD_KEY, database_url=url) as lost:
        answer = await refused(lost, "PATCH", f"{PROVIDERS}/a", {"options": {}}, 500)
        assert answer["details"]["code"] == "secret_unreadable"
        await refused(lost, "PATCH", f"{PROVIDERS}/a", {"api_key": KEY}, 200)
