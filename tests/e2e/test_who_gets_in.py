"""Without a credential: loopback, as the local admin. With one: nobody without it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, AuthenticationError

from tests.e2e.server import Served, serving

TOKEN = "correct-horse-battery"
HELLO = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, token=TOKEN) as served:
        yield served


async def test_a_web_page_does_not_get_in(runtime: Served) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:8000"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions")):
            response = await runtime.http.request(method, path, json=HELLO, headers=headers)
            assert response.status_code == 403, headers
            assert "access-control-allow-origin" not in response.headers


async def test_a_page_of_our_own_does(runtime: Served) -> None:
    headers = {"Origin": runtime.url, "Sec-Fetch-Site": "same-origin"}
    assert (await runtime.http.get("/v1/models", headers=headers)).status_code == 200


async def test_preflights_are_not_answered_with_leave(runtime: Served) -> None:
    response = await runtime.http.options(
        "/v1/chat/completions",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert response.status_code == 403


async def test_any_bearer_is_taken_while_there_is_no_credential(runtime: Served) -> None:
    for key in ("local", "sk-whatever"):
        headers = {"Authorization": f"Bearer {key}"}
        assert (await runtime.http.get("/v1/models", headers=headers)).status_code == 200


async def test_the_token_opens_every_door_by_either_header(guarded: Served) -> None:
    for headers in ({"X-Runtime-Token": TOKEN}, {"Authorization": f"Bearer {TOKEN}"}):
        del guarded.http.headers["X-Runtime-Token"]
        assert (await guarded.http.get("/v1/agents", headers=headers)).status_code == 200
        guarded.http.headers["X-Runtime-Token"] = TOKEN
    assert "[demo]" in await guarded.ask("assistant")


async def test_nobody_gets_in_without_it(guarded: Served) -> None:
    del guarded.http.headers["X-Runtime-Token"]
    spec = (await guarded.http.get("/openapi.json")).json()
    for path, operations in spec["paths"].items():
        if path in ("/healthz", "/readyz"):
            continue
        for method in operations:
            response = await guarded.http.request(method, path, json={})
            assert response.status_code == 401, (method, path)
            assert response.headers["WWW-Authenticate"] == "Bearer"
    for headers in ({"X-Runtime-Token": "wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        assert (await guarded.http.get("/v1/agents", headers=headers)).status_code == 401


async def test_the_sdk_sees_an_authentication_error(guarded: Served) -> None:
    async with AsyncOpenAI(base_url=f"{guarded.url}/v1", api_key="wrong") as stranger:
        with pytest.raises(AuthenticationError) as error:
            await stranger.models.list()
    assert (error.value.type, error.value.code) == ("authentication_error", "invalid_api_key")


async def test_two_carriers_that_disagree_are_refused(guarded: Served) -> None:
    headers = {"Authorization": "Bearer something-else", "X-Runtime-Token": TOKEN}
    assert (await guarded.http.get("/v1/agents", headers=headers)).status_code == 401


async def test_two_tokens_are_accepted_while_one_rotates_in(tmp_path: Path) -> None:
    async with serving(tmp_path, token=f"{TOKEN},the-next-one") as runtime:
        for token in (TOKEN, "the-next-one"):
            runtime.http.headers["X-Runtime-Token"] = token
            assert (await runtime.http.get("/v1/agents")).status_code == 200


async def test_probes_need_no_token(guarded: Served) -> None:
    del guarded.http.headers["X-Runtime-Token"]
    for path in ("/healthz", "/readyz"):
        assert (await guarded.http.get(path)).status_code == 200


async def test_a_platform_calls_in_the_name_of_its_users(guarded: Served) -> None:
    beta = await guarded.publish(
        name="Beta",
        template_id="langgraph-simple-test",
        version_type="beta",
        owner_id="ann",
    )
    body = {**HELLO, "model": beta["id"]}
    for user, status in (("ann", 200), ("bob", 404)):
        call = {**body, "metadata": {"user_id": user}}
        response = await guarded.http.post("/v1/chat/completions", json=call)
        assert response.status_code == status
