"""The Python clients against a real server: each test for the sync and the async one."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from runtime.client import (
    AgentRuntimeClient,
    AsyncAgentRuntimeClient,
    AuthenticationError,
    BadRequestError,
    Finish,
    NotFoundError,
    PermissionDeniedError,
    RuntimeClientError,
    Start,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    UnprocessableError,
)
from runtime.domain.value_objects.ids import uuid7_hex
from tests.clients import KINDS, Either, Kind, either
from tests.e2e.server import Served, serving

KEY = "a-token-that-only-the-tests-know"
SUM: dict[str, Any] = {"name": "Reckoner", "system_prompt": "You do sums.", "tools": ["calculator"]}


@pytest.fixture(params=KINDS)
async def client(request: pytest.FixtureRequest, runtime: Served) -> AsyncIterator[Either]:
    async with either(request.param, runtime.url) as made:
        yield made


async def test_an_agent_is_made_asked_and_looked_up(client: Either) -> None:
    made = await client.call("create_agent", **SUM)
    assert made["success"] is True
    id = made["data"]["agent_id"]

    answer = await client.call("send_message", id, "Use the tool calculator with 5 + 3")
    assert answer["data"]["tool_calls"][0]["status"] == "success"
    assert (await client.call("get_agent", id))["name"] == "Reckoner"
    assert id in [agent["agent_id"] for agent in await client.call("list_agents")]


async def test_a_conversation_goes_on(client: Either) -> None:
    first = (await client.call("send_message", "assistant", "My name is Ada."))["data"]
    session = first["conversation_id"]
    await client.call("send_message", "assistant", "Who am I?", session)

    items = await client.call("list_session_items", session, limit=3)
    assert [item["role"] for item in items] == ["user", "assistant", "user"]
    rest = await client.call("list_session_items", session, after=items.next_cursor)
    assert (items.has_more, len(rest), rest.next_cursor) == (True, 1, None)


async def test_sessions_are_begun_read_and_removed(client: Either) -> None:
    item = {"type": "message", "role": "user", "content": "Hi"}
    session = await client.call("create_session", {"topic": "demo"}, [item])

    assert (await client.call("get_session", session["id"]))["metadata"] == {"topic": "demo"}
    answer = await client.call(
        "chat", model="assistant", messages="Hello", session_id=session["id"]
    )
    assert answer.conversation_id == session["id"]
    assert (await client.call("delete_session", session["id"]))["deleted"] is True
    with pytest.raises(NotFoundError) as refused:
        await client.call("get_session", session["id"])
    assert refused.value.code == "conversation_not_found"


async def test_a_streamed_message_names_its_conversation(client: Either) -> None:
    start, *between, finish = await client.read("stream_message", "assistant", "Count to 3")

    assert isinstance(start, Start)
    assert (start.conversation_id or "").startswith("conv_")
    assert isinstance(finish, Finish)
    assert "1 2 3" in "".join(each.text for each in between if isinstance(each, TextDelta))
    assert finish.usage


async def test_an_agent_s_own_tools_are_events(client: Either) -> None:
    made = await client.call("create_agent", **SUM)
    said = "Use the tool calculator with 5 + 3"
    events = await client.read("stream_message", made["data"]["agent_id"], said)

    [called] = [each for each in events if isinstance(each, ToolCall)]
    [returned] = [each for each in events if isinstance(each, ToolResult)]
    assert called.tool_call_id == returned.tool_call_id
    assert (called.tool_name, returned.status) == ("calculator", "success")


async def test_a_chat_is_the_same_whole_and_streamed(client: Either) -> None:
    said = {"model": "assistant", "messages": [{"role": "user", "content": "Count to 3"}]}
    whole = await client.call("chat", **said)
    *pieces, finish = await client.read("chat", **said, stream=True)

    assert "".join(each.text for each in pieces if isinstance(each, TextDelta)) == whole.text
    assert isinstance(finish, Finish)
    assert (finish.finish_reason, finish.usage) == (whole.finish_reason, whole.usage)


async def test_calls_for_the_caller_come_in_pieces(client: Either) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    said = {"model": "assistant", "messages": "Use the tool look_up", "tools": [tool]}
    whole = await client.call("chat", **said)
    *pieces, finish = await client.read("chat", **said, stream=True)

    calls = [each for each in pieces if isinstance(each, ToolCallDelta)]
    assert calls[0].tool_name == "look_up" == whole.tool_calls[0]["function"]["name"]
    assert cast(Finish, finish).finish_reason == "tool_calls"


async def test_what_is_remembered_is_found_and_forgotten(client: Either) -> None:
    made = await client.call("remember", "Drinks tea.", key="drink", tags=["habit"])
    await client.call("remember", "Walks on Sundays.", value={"km": 5})

    found = await client.call("list_memories", "tea", tag="habit")
    assert [each["id"] for each in found] == [made["id"]]
    assert len(await client.call("list_memories", scope="user")) == 2
    assert (await client.call("forget", made["id"]))["deleted"] is True
    assert await client.call("forget_everything") == {"deleted": 1}


async def test_models_tools_runs_and_health_are_told(client: Either) -> None:
    made = await client.call("send_message", "assistant", "Hello")

    assert [model["id"] for model in await client.call("list_models")] == ["assistant"]
    tools = await client.call("list_tools")
    assert [tool["tool_id"] for tool in tools] == ["calculator", "current_time"]
    run = await client.call("get_run", made["data"]["run_id"])
    assert run["status"] == "completed"
    found = await client.call("list_runs", session_id=made["data"]["conversation_id"])
    assert [each["id"] for each in found] == [run["id"]]
    health = await client.call("health")
    assert (health["status"], health["services"]["model_service"]) == ("healthy", "healthy")


async def test_schedules_are_made_run_paused_and_deleted(client: Either) -> None:
    when = {"cron": "0 7 * * mon-fri", "timezone": "Europe/Berlin"}
    made = await client.call("create_schedule", "assistant", "Sum up the day.", **when)
    id = made["id"]

    assert [each["id"] for each in await client.call("list_schedules")] == [id]
    begun = await client.call("run_schedule", id)
    (tick,) = await client.call("list_schedule_runs", id)
    assert tick["run_id"] == begun["run_id"]
    assert (await client.call("pause_schedule", id))["enabled"] is False
    assert (await client.call("resume_schedule", id))["enabled"] is True
    assert len((await client.call("get_schedule", id))["next_ticks"]) == 5
    assert (await client.call("delete_schedule", id))["deleted"] is True


@pytest.mark.parametrize(
    ("name", "args", "kind", "code", "param"),
    [
        ("get_agent", ["agent_" + "0" * 32], NotFoundError, "agent_not_found", None),
        ("get_run", ["run_" + "0" * 32], NotFoundError, "run_not_found", None),
        ("create_agent", [""], BadRequestError, "invalid_request", "name"),
        ("list_session_items", ["conv_0"], NotFoundError, "conversation_not_found", "id"),
    ],
)
async def test_every_shape_of_error_is_one_error(
    client: Either,
    name: str,
    args: list[Any],
    kind: type[RuntimeClientError],
    code: str,
    param: str,
) -> None:
    with pytest.raises(kind) as refused:
        await client.call(name, *args)

    assert refused.value.code == code
    assert param is None or refused.value.param == param
    assert (refused.value.request_id or "").startswith("req_")
    assert str(refused.value).endswith(f"[{refused.value.request_id}]")
    assert refused.value.body


async def test_a_tool_that_is_not_there_is_told(client: Either) -> None:
    with pytest.raises(UnprocessableError, match="calculator"):
        await client.call("create_agent", "Weatherman", tools=["weather"])


async def test_a_refused_stream_keeps_its_status(client: Either) -> None:
    with pytest.raises(NotFoundError) as refused:
        await client.read("stream_message", f"agent_{uuid7_hex()}", "Hello")
    assert refused.value.code == "agent_not_found"


async def test_an_id_can_t_lead_to_another_route(client: Either) -> None:
    for id in ("../../v1/models?x=", "..", "assistant/messages", ""):
        with pytest.raises(BadRequestError):
            await client.call("get_agent", id)
    with pytest.raises(NotFoundError):
        await client.call("get_agent", "assistant?")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_key_is_sent_and_never_shown(kind: Kind, tmp_path: Path) -> None:
    async with serving(tmp_path, token=KEY) as served:
        async with either(kind, served.url, api_key=KEY) as client:
            assert (await client.call("health"))["status"] == "healthy"
            assert KEY not in repr(client.client) + repr(vars(client.client))
        async with either(kind, served.url, api_key=f"not-{KEY}") as client:
            with pytest.raises(AuthenticationError) as refused:
                await client.call("list_tools")
    assert KEY not in f"{refused.value} {refused.value!r} {vars(refused.value)}"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_viewer_s_refusal_is_its_own_error(kind: Kind, tmp_path: Path) -> None:
    async with serving(tmp_path, token=KEY) as served:
        key = (await served.post("/v1/keys", {"name": "CI", "roles": ["viewer"]}, status=201))[
            "key"
        ]
        async with either(kind, served.url, api_key=key) as client:
            with pytest.raises(PermissionDeniedError):
                await client.call("create_agent", "Mine")


@pytest.mark.parametrize("kind", KINDS)
async def test_address_and_key_come_from_the_environment(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, token=KEY) as served:
        monkeypatch.setenv("AGENT_RUNTIME_URL", f"{served.url}/")
        monkeypatch.setenv("AGENT_RUNTIME_API_KEY", KEY)
        async with either(kind, "") as client:
            assert len(await client.call("list_tools")) == 2


async def test_a_stream_that_is_left_stops_the_run(runtime: Served) -> None:
    async with AsyncAgentRuntimeClient(runtime.url) as client:
        said = "Count to 20000"
        async with client.stream_message("assistant", said) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    break
    ended = await runtime.until(lambda found: bool(found["data"]), "/v1/runs")
    assert ended["data"][0]["status"] == "cancelled"


async def test_texts_are_only_the_text(runtime: Served) -> None:
    async with AsyncAgentRuntimeClient(runtime.url) as client:
        stream = client.chat(model="assistant", messages="Count to 3", stream=True)
        assert "1 2 3" in await stream.text()


def test_importing_it_is_light() -> None:
    code = (
        "import sys, runtime.client\n"
        "heavy = {'asyncio', 'fastapi', 'httpx', 'langchain_core', 'pydantic', 'sqlalchemy',"
        " 'starlette', 'websockets'}\n"
        "print(sorted(heavy & sys.modules.keys()), any(m.startswith(('runtime.domain',"
        " 'runtime.infrastructure')) for m in sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out == "[] False\n"


def test_a_method_tells_what_it_takes() -> None:
    import inspect

    signature = inspect.signature(AgentRuntimeClient.send_message)
    assert list(signature.parameters) == ["self", "agent_id", "message", "conversation_id"]
    assert "conversation_id" in (AgentRuntimeClient.send_message.__doc__ or "")
