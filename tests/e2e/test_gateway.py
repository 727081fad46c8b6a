"""The gateway's routes, as a client of the service contracts calls them."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import jwt
import pytest

from runtime.client import UpstreamError
from runtime.domain.value_objects.ids import uuid7_hex
from tests.clients import KINDS, Kind, either
from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream

SECRET = "a-secret-that-only-the-tests-know-of"
BOT: Json = {
    "name": "Test Agent",
    "description": "A test agent",
    "system_prompt": "You are a helpful assistant.",
    "capabilities": ["conversation"],
    "tools": [],
}


async def made(runtime: Served, **fields: object) -> Json:
    body: Json = await runtime.post("/api/agents", {**BOT, **fields})
    data: Json = body["data"]
    return data


def events(text: str) -> list[Json]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@pytest.fixture
async def editor(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody whose agents need a reviewer."""
    async with serving(tmp_path, jwt_secret=SECRET) as served:
        claims = {"sub": "ann", "roles": ["editor"], "exp": time.time() + 3_600}
        token = jwt.encode(claims, SECRET, "HS256")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=served.url, headers=headers) as client:
            yield client


async def test_an_agent_of_the_local_admin_can_be_called_at_once(runtime: Served) -> None:
    body = await runtime.post("/api/agents", BOT)

    assert body["success"] is True
    assert body["error"] is None
    assert body["request_id"].startswith("req_")
    agent = body["data"]
    assert (agent["status"], agent["model"]) == ("published", "test-agent")
    assert agent["template_id"] == "langgraph-simple-test"
    assert await runtime.ask("test-agent", "Your system prompt?")


async def test_an_agent_with_tools_calls_them(runtime: Served) -> None:
    agent = await made(runtime, tools=["calculator"], capabilities=["conversation", "tool_use"])
    assert agent["template_id"] == "react-agent"
    assert agent["capabilities"] == ["conversation", "tool_use"]

    said = "Use the tool calculator with 5 + 3"
    answer = await runtime.post(f"/api/agents/{agent['agent_id']}/messages", {"message": said})

    [call] = answer["data"]["tool_calls"]
    assert (call["tool_name"], call["status"]) == ("calculator", "success")


async def test_an_agent_of_an_editor_is_a_draft_that_they_can_call(
    editor: httpx.AsyncClient,
) -> None:
    agent = (await editor.post("/api/agents", json=BOT)).json()["data"]
    assert (agent["status"], agent["model"]) == ("draft", "test-agent@v1")

    path = f"/api/agents/{agent['agent_id']}/messages"
    answer = (await editor.post(path, json={"message": "Hello"})).json()
    assert answer["data"]["content"]


async def test_an_unknown_tool_is_named(runtime: Served) -> None:
    refused = await runtime.post("/api/agents", {**BOT, "tools": ["weather"]}, status=422)

    assert refused["success"] is False
    assert refused["data"] is None
    assert refused["code"] == "invalid_config"
    assert "calculator" in refused["error"]


async def test_agents_are_listed_and_looked_up(runtime: Served) -> None:
    agent = await made(runtime)

    listed = await runtime.get("/api/agents?limit=1")
    assert [each["agent_id"] for each in listed["data"]["items"]] == [agent["agent_id"]]
    assert listed["data"]["has_more"] is True
    found = await runtime.get(f"/api/agents/{agent['agent_id']}")
    assert found["data"] == agent


async def test_a_conversation_goes_on_by_the_id_that_was_answered(runtime: Served) -> None:
    path = f"/api/agents/{(await made(runtime))['agent_id']}/messages"

    first = (await runtime.post(path, {"message": "My name is Ada."}))["data"]
    assert first["conversation_id"].startswith("conv_")
    again = {"message": "Which name?", "conversation_id": first["conversation_id"]}
    second = (await runtime.post(path, again))["data"]

    assert second["conversation_id"] == first["conversation_id"]
    assert second["run_id"] != first["run_id"]
    items = await runtime.get(f"/v1/conversations/{first['conversation_id']}/items?order=asc")
    assert [item["role"] for item in items["data"]] == ["user", "assistant"] * 2
    assert items["data"][1]["id"] == first["message_id"]
    runs = await runtime.get(f"/v1/runs?session_id={first['conversation_id']}")
    assert [run["id"] for run in runs["data"]] == [second["run_id"], first["run_id"]]


async def test_two_conversations_without_an_id_are_two(runtime: Served) -> None:
    path = f"/api/agents/{(await made(runtime))['agent_id']}/messages"
    found = [(await runtime.post(path, {"message": "Hello"}))["data"] for _ in range(2)]

    assert found[0]["conversation_id"] != found[1]["conversation_id"]


async def test_a_name_of_one_s_own_begins_a_conversation_and_goes_on_in_it(runtime: Served) -> None:
    path = f"/api/agents/{(await made(runtime))['agent_id']}/messages"
    said = {"message": "Hello", "conversation_id": "0f9d1c52-6f1e-4b0c-9c57-5d2f1a7e8b11"}
    found = [(await runtime.post(path, said))["data"] for _ in range(2)]

    assert found[0]["conversation_id"] == found[1]["conversation_id"]


async def test_an_unknown_conversation_or_agent_is_not_found(runtime: Served) -> None:
    path = f"/api/agents/{(await made(runtime))['agent_id']}/messages"
    unknown = {"message": "Hello", "conversation_id": f"conv_{uuid7_hex()}"}

    refused = await runtime.post(path, unknown, status=404)
    assert refused["code"] == "conversation_not_found"
    nobody = f"/api/agents/agent_{uuid7_hex()}/messages"
    refused = await runtime.post(nobody, {"message": "Hello"}, status=404)
    assert refused["code"] == "agent_not_found"


async def test_a_streamed_answer_is_the_same_answer_in_pieces(runtime: Served) -> None:
    path = f"/api/agents/{(await made(runtime))['agent_id']}/messages"
    whole = (await runtime.post(path, {"message": "Count to five"}))["data"]
    streamed = await runtime.http.post(path, json={"message": "Count to five", "stream": True})

    assert streamed.headers["content-type"].startswith("text/event-stream")
    start, *pieces, finish = events(streamed.text)
    assert (start["type"], finish["type"]) == ("start", "finish")
    assert start["conversation_id"].startswith("conv_")
    text = "".join(each["content"] for each in pieces if each["type"] == "text-delta")
    assert text == whole["content"]
    assert finish["usage"]["total_tokens"] == whole["usage"]["total_tokens"]


async def test_a_stream_under_a_key_is_kept(runtime: Served) -> None:
    path = f"/api/agents/{(await made(runtime))['agent_id']}/messages"
    body, headers = {"message": "Hello", "stream": True}, {"Idempotency-Key": "one"}
    first, again = [await runtime.http.post(path, json=body, headers=headers) for _ in range(2)]

    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content


async def test_health_is_told_in_the_envelope_and_beside_it(runtime: Served) -> None:
    health = await runtime.get("/api/health")

    services = dict.fromkeys(("agent_service", "model_service", "tool_service"), "healthy")
    assert (health["status"], health["services"]) == ("healthy", services)
    assert health["data"] == {"status": "healthy", "services": services}
    assert health["success"] is True


async def test_a_runtime_without_its_database_is_not_healthy(runtime: Served) -> None:
    health = runtime.container.service_queries().health
    broken = {**health.checks, "database": _down}
    runtime.container.health_queries.add_kwargs(checks=broken)

    answer = await runtime.get("/api/health", status=503)
    assert answer["services"]["agent_service"] == "unhealthy"
    assert answer["services"]["model_service"] == "healthy"
    assert answer["success"] is False
    assert "agent_service" in answer["error"]


async def _down() -> str:
    return "unhealthy"


async def test_tools_are_listed_with_their_parameters(runtime: Served) -> None:
    tools = (await runtime.get("/api/tools"))["data"]["items"]

    assert [tool["tool_id"] for tool in tools] == ["calculator", "current_time"]
    assert tools[0]["parameters"]["type"] == "object"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/nothing", b"", 404, "not_found"),
        ("DELETE", "/api/tools", b"", 405, "method_not_allowed"),
        ("POST", "/api/agents", b"{", 400, "invalid_request"),
        ("POST", "/api/agents", b"{}", 400, "invalid_request"),
        ("POST", "/api/agents", b'{"name": "A", "nmae": "B"}', 400, "invalid_request"),
        ("POST", "/api/agents", b'{"name": NaN}', 400, "invalid_request"),
        ("POST", "/api/agents", b" " * 2_000, 413, "payload_too_large"),
        ("GET", "/api/agents/nobody", b"", 404, "agent_not_found"),
        ("GET", "/api/agents?limit=0", b"", 400, "invalid_request"),
        ("GET", "/api/" + "x" * 9_000, b"", 414, "uri_too_long"),
    ],
)
async def test_every_refusal_has_the_gateway_s_shape(
    tmp_path: Path, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json", "X-Request-Id": "req-of-mine"}
    async with serving(tmp_path, max_body_bytes=1_000) as runtime:
        response = await runtime.http.request(method, path, content=body, headers=headers)

    refused = response.json()
    assert response.status_code == status
    assert refused.keys() == {"request_id", "success", "data", "error", "code", "details"}
    assert (refused["success"], refused["data"], refused["code"]) == (False, None, code)
    assert refused["error"]
    assert refused["request_id"] == response.headers["x-request-id"]


@pytest.fixture
async def failing(tmp_path: Path) -> AsyncIterator[Served]:
    """A runtime whose provider does what a message tells it to."""
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path,
            openai_base_url=upstream.base_url,
            openai_api_key="sk-of-nobody",
            model_attempts=1,
        ) as runtime,
    ):
        yield runtime


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_word_keeps_its_status(
    failing: Served, stream: bool
) -> None:
    said = {"message": "fault:500", "stream": stream}
    refused = await failing.post("/api/agents/assistant/messages", said, status=502)

    assert (refused["success"], refused["code"]) == (False, "upstream_error")


async def test_a_stream_that_fails_ends_with_its_error(failing: Served) -> None:
    said = {"message": "fault:cut", "stream": True}
    response = await failing.http.post("/api/agents/assistant/messages", json=said)

    *before, last = events(response.text)
    assert response.status_code == 200
    assert any(each["type"] == "text-delta" for each in before)
    assert (last["type"], last["code"], last["status"]) == ("error", "upstream_error", 502)
    assert "[DONE]" not in response.text


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_raises_what_a_run_failed_with(failing: Served, kind: Kind) -> None:
    async with either(kind, failing.url, max_retries=0) as client:
        with pytest.raises(UpstreamError) as whole:
            await client.call("send_message", "assistant", "fault:500")
        with pytest.raises(UpstreamError) as streamed:
            await client.read("stream_message", "assistant", "fault:cut")
        with pytest.raises(UpstreamError) as chatted:
            await client.read("chat", model="assistant", messages="fault:cut", stream=True)
    assert {each.value.code for each in (whole, streamed, chatted)} == {"upstream_error"}
