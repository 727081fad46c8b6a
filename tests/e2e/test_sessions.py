"""Turns of a session through chat completions, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import select

from runtime.infrastructure.repositories.sessions import sessions
from tests.e2e.process import process
from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream

SLOW = "delay:40 words:10"


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def assistant(text: str) -> Json:
    return {"role": "assistant", "content": text}


@dataclass
class Setup:
    runtime: Served
    upstream: FakeUpstream

    async def turn(
        self,
        *messages: str | Json,
        session: str | None = "trip",
        headers: dict[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - as in the SDK
    ) -> str:
        metadata: Any = {"metadata": {"session_id": session}} if session else {}
        answer: Any = await self.runtime.openai.chat.completions.create(
            model=options.pop("model", "assistant"),
            messages=[user(each) if isinstance(each, str) else each for each in messages],  # type: ignore[misc]
            extra_headers=headers,
            **metadata,
            **options,
        )
        return str(answer.choices[0].message.content)

    async def slow_turn(self, text: str = SLOW) -> None:
        stream: Any = await self.runtime.openai.chat.completions.create(
            model="assistant",
            messages=[user(text)],  # type: ignore[list-item]
            metadata={"session_id": "trip"},
            stream=True,
        )
        async for _ in stream:
            pass

    def seen(self) -> list[str]:
        """What the model was shown last, without the agent's own instructions."""
        messages = self.upstream.requests[-1].json["messages"]
        return [str(each["content"]) for each in messages if each["role"] != "system"]

    async def remembered(self) -> list[str]:
        async with self.runtime.container.engine().connect() as connection:
            named = select(sessions.c.id).where(sessions.c.name == "trip")
            id = str(await connection.scalar(named))
        items: Any = await self.runtime.openai.conversations.items.list(id, order="asc", limit=100)
        return [item.content[0].text async for item in items]


@pytest.fixture(params=["sqlite", "postgres"])
async def setup(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setup]:
    settings: dict[str, Any] = {}
    if request.param == "postgres":
        settings["database_url"] = request.getfixturevalue("fresh_postgres_url")
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path, openai_base_url=upstream.base_url, openai_api_key="sk-test", **settings
        ) as runtime,
    ):
        yield Setup(runtime, upstream)


async def test_a_client_may_send_only_what_is_new(setup: Setup) -> None:
    await setup.turn("one")
    await setup.turn("two")

    assert setup.seen() == ["one", "You said: one", "two"]
    assert await setup.remembered() == ["one", "You said: one", "two", "You said: two"]


async def test_a_client_may_send_the_whole_conversation(setup: Setup) -> None:
    await setup.turn("one")
    await setup.turn("one", assistant("You said: one"), "two")

    assert setup.seen() == ["one", "You said: one", "two"]
    assert await setup.remembered() == ["one", "You said: one", "two", "You said: two"]


async def test_a_streamed_turn_is_remembered_before_its_end_is_read(setup: Setup) -> None:
    for text in ("one", "two"):
        stream: Any = await setup.runtime.openai.chat.completions.create(
            model="assistant",
            messages=[user(text)],  # type: ignore[list-item]
            metadata={"session_id": "trip"},
            stream=True,
        )
        async for _ in stream:
            pass

    assert setup.seen() == ["one", "You said: one", "two"]


async def test_the_same_words_again_are_a_turn_of_their_own(setup: Setup) -> None:
    await setup.turn("one")
    await setup.turn("one")

    assert setup.seen() == ["one", "You said: one", "one"]


async def test_an_edited_message_takes_memory_back(setup: Setup) -> None:
    await setup.turn("one")
    await setup.turn("two")
    await setup.turn("one", assistant("You said: one"), "three")

    assert setup.seen() == ["one", "You said: one", "three"]
    assert await setup.remembered() == ["one", "You said: one", "three", "You said: three"]


async def test_a_regenerated_answer_takes_the_place_of_the_one_before(setup: Setup) -> None:
    headers = {"X-OpenWebUI-Chat-Id": "trip"}
    await setup.turn("one", session=None, headers=headers)
    await setup.turn("one", session=None, headers=headers)
    assert await setup.remembered() == ["one", "You said: one"]

    shown: list[str | Json] = ["one", assistant("You said: one"), "two"]
    await setup.turn(*shown, session=None, headers=headers)
    await setup.turn(*shown, session=None, headers=headers)
    assert setup.seen() == ["one", "You said: one", "two"]
    assert await setup.remembered() == ["one", "You said: one", "two", "You said: two"]


async def test_instructions_are_of_the_request_and_never_remembered(setup: Setup) -> None:
    await setup.turn({"role": "system", "content": "Be brief."}, "one")
    await setup.turn({"role": "developer", "content": "Be long."}, "two")

    messages = setup.upstream.requests[-1].json["messages"]
    assert [m["content"] for m in messages if m["role"] == "developer"] == ["Be long."]
    assert "Be brief." not in str(messages)
    assert await setup.remembered() == ["one", "You said: one", "two", "You said: two"]


async def test_a_chat_ui_s_own_question_is_no_turn(setup: Setup) -> None:
    await setup.turn("one")
    await setup.turn("### Task:\nSuggest a title for: one")

    assert setup.seen() == ["### Task:\nSuggest a title for: one"]
    assert await setup.remembered() == ["one", "You said: one"]


async def test_results_of_the_caller_s_functions_go_behind_their_calls(setup: Setup) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    await setup.turn('weather {"city": "Ulm"}', tools=[tool])
    result = {"role": "tool", "tool_call_id": "call_0", "content": "sunny"}
    answer = await setup.turn(result, tools=[tool])

    messages = setup.upstream.requests[-1].json["messages"]
    assert answer == "The tool said: sunny"
    assert [m["role"] for m in messages if m["role"] != "system"] == ["user", "assistant", "tool"]
    assert messages[-2]["tool_calls"][0]["id"] == "call_0"


async def test_the_answer_names_the_session_and_the_conversation(setup: Setup) -> None:
    create = setup.runtime.openai.chat.completions.with_raw_response.create
    ids = set()
    for stream in (False, True):
        raw = await create(
            model="assistant",
            messages=[user("Hi")],  # type: ignore[list-item]
            stream=stream,
            extra_headers={"X-Session-Id": "my trip"},
        )
        assert raw.headers["x-session-id"] == "my trip"
        ids.add(raw.headers["x-conversation-id"])
        await raw.http_response.aread()
    (id,) = ids

    assert id.startswith("conv_")
    await setup.turn("again", session=id)
    assert setup.seen() == ["Hi", "You said: Hi", "Hi", "You said: Hi", "again"]
    assert (await setup.runtime.openai.conversations.retrieve(id)).id == id


async def test_sessions_of_different_agents_and_callers_are_apart(setup: Setup) -> None:
    await setup.runtime.publish(name="Other", template_id="langgraph-simple-test", slug="other")
    await setup.turn("one")
    await setup.turn("two", model="other")
    assert setup.seen() == ["two"]

    await setup.runtime.openai.chat.completions.create(
        model="assistant",
        messages=[user("three")],  # type: ignore[list-item]
        metadata={"session_id": "trip", "user_id": "eve"},
    )
    assert setup.seen() == ["three"]


@pytest.mark.parametrize("name", ["", " a", "a ", "ü", "a\nb", "n" * 257])
async def test_a_name_that_is_none_is_refused(runtime: Served, name: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        await runtime.ask("assistant", metadata={"session_id": name})
    assert (refusal.value.param, refusal.value.code) == ("metadata.session_id", "invalid_value")


async def test_two_names_that_disagree_are_refused(runtime: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="two different sessions"):
        await runtime.ask(
            "assistant", metadata={"session_id": "a"}, extra_headers={"X-Session-Id": "b"}
        )
    await runtime.ask(
        "assistant",
        metadata={"session_id": "a"},
        extra_headers={"X-Session-Id": "a", "X-OpenWebUI-Chat-Id": "a"},
    )


async def test_more_than_one_answer_and_a_session_do_not_go_together(runtime: Served) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        await runtime.ask("assistant", n=2, metadata={"session_id": "a"})
    assert (refusal.value.param, refusal.value.code) == ("n", "unsupported_parameter")


async def test_an_unknown_conversation_is_not_begun(runtime: Served) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        await runtime.ask("assistant", metadata={"session_id": "conv_404"})
    assert refusal.value.code == "conversation_not_found"


async def test_a_failed_turn_did_not_happen_and_frees_the_session(setup: Setup) -> None:
    await setup.turn("one")
    with pytest.raises(openai.APIStatusError):
        await setup.turn("fault:401")
    await setup.turn("two")

    assert setup.seen() == ["one", "You said: one", "two"]


async def test_turns_of_one_session_wait_for_each_other(setup: Setup) -> None:
    words = [f"{SLOW} #{n}" for n in range(4)]
    await asyncio.gather(*(setup.slow_turn(each) for each in words))

    answered = " ".join(f"word{n}" for n in range(10))
    said = await setup.remembered()
    assert said[1::2] == [answered] * 4
    assert sorted(said[::2]) == words
    shown = [len(asked.json["messages"]) for asked in setup.upstream.requests[:4]]
    assert shown == [shown[0] + 2 * n for n in range(4)]


async def test_where_it_is_set_so_a_second_turn_is_refused(tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path,
            openai_base_url=upstream.base_url,
            openai_api_key="sk-test",
            session_conflict="refuse",
        ) as runtime,
    ):
        setup = Setup(runtime, upstream)
        first = asyncio.create_task(setup.slow_turn())
        await upstream.arrived.wait()
        with pytest.raises(openai.ConflictError) as refusal:
            await setup.turn("two")
        assert refusal.value.code == "session_busy"
        assert refusal.value.response.headers["retry-after"] == "1"
        assert "x-should-retry" not in refusal.value.response.headers
        metrics = (await runtime.http.get("/metrics")).text
        assert "agent_active_sessions 1.0" in metrics
        await first
        await setup.turn("three")
        assert "agent_active_sessions 0.0" in (await runtime.http.get("/metrics")).text


async def test_waiting_has_an_end(tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path,
            openai_base_url=upstream.base_url,
            openai_api_key="sk-test",
            session_wait_s=0.1,
        ) as runtime,
    ):
        setup = Setup(runtime, upstream)
        first = asyncio.create_task(setup.slow_turn())
        await upstream.arrived.wait()
        with pytest.raises(openai.ConflictError):
            await setup.turn("two")
        await first


async def test_who_leaves_in_the_middle_of_a_turn_leaves_no_memory(setup: Setup) -> None:
    await setup.turn("one")
    setup.upstream.arrived.clear()
    for stream in (False, True):
        leaving = asyncio.create_task(_read(setup, stream=stream))
        await setup.upstream.arrived.wait()
        setup.upstream.arrived.clear()
        await asyncio.sleep(0.1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)

    async with asyncio.timeout(3):
        await setup.turn("two")
    assert setup.seen() == ["one", "You said: one", "two"]


async def _read(setup: Setup, *, stream: bool) -> None:
    body = {
        "model": "assistant",
        "messages": [user("delay:20 words:1000" if stream else "fault:slow-headers")],
        "stream": stream,
        "metadata": {"session_id": "trip"},
    }
    async with setup.runtime.http.stream("POST", "/v1/chat/completions", json=body) as response:
        async for _ in response.aiter_bytes():
            pass


async def test_who_leaves_while_waiting_does_not_hold_the_session(setup: Setup) -> None:
    first = asyncio.create_task(setup.slow_turn())
    await setup.upstream.arrived.wait()
    waiting = [asyncio.create_task(_read(setup, stream=False)) for _ in range(5)]
    await asyncio.sleep(0.1)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await first

    async with asyncio.timeout(3):
        await setup.turn("two")
    assert len(setup.seen()) == 3


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    seen: list[str] = []
    for text in ("one", "two"):
        async with (
            FakeUpstream() as upstream,
            serving(
                tmp_path, openai_base_url=upstream.base_url, openai_api_key="sk-test"
            ) as runtime,
        ):
            setup = Setup(runtime, upstream)
            await setup.turn(text)
            seen = setup.seen()
    assert seen == ["one", "You said: one", "two"]


async def test_only_as_many_messages_as_the_agent_looks_at_are_shown(setup: Setup) -> None:
    await setup.runtime.publish(
        name="Short",
        template_id="langgraph-simple-test",
        slug="short",
        template_config={"history_messages": 3},
    )
    for text in ("one", "two", "three"):
        await setup.turn(text, model="short")
    assert setup.seen() == ["two", "You said: two", "three"]


async def test_what_falls_out_of_the_window_is_told_in_a_summary(setup: Setup) -> None:
    agent = await setup.runtime.publish(
        name="Long memory",
        template_id="langgraph-simple-test",
        slug="long",
        template_config={"history_messages": 4, "history_summary": True},
    )
    for n in range(1, 6):
        await setup.turn(f"text {n}", model="long")

    calls = [asked.json["messages"] for asked in setup.upstream.requests]
    summaries = [call for call in calls if "Summarise" in call[0]["content"]]
    last = [str(message["content"]) for message in calls[-1]]
    assert 1 <= len(summaries) <= 2
    assert "user: text 1" in summaries[0][1]["content"]
    assert any(each.startswith("Summary of the conversation before:") for each in last)
    assert last[-1] == "text 5"
    assert "text 1" not in last
    runs = (await setup.runtime.get(f"/v1/runs?agent_id={agent['id']}"))["data"]
    assert max(run["usage"]["input_tokens"] for run in runs) > 30


@pytest.mark.parametrize("conflict", ["wait", "refuse"])
async def test_two_replicas_on_one_database_take_turns(
    tmp_path: Path, fresh_postgres_url: str, conflict: str
) -> None:
    async with FakeUpstream() as upstream:
        settings: dict[str, Any] = {
            "openai_base_url": upstream.base_url,
            "openai_api_key": "sk-test",
            "database_url": fresh_postgres_url,
            "session_conflict": conflict,
            "secret_key": "k" * 40,
        }
        async with (
            serving(tmp_path / "a", **settings) as one,
            serving(tmp_path / "b", **settings) as two,
        ):
            setups = [Setup(one, upstream), Setup(two, upstream)]
            first = asyncio.create_task(setups[0].slow_turn())
            await upstream.arrived.wait()
            if conflict == "refuse":
                with pytest.raises(openai.ConflictError):
                    await setups[1].turn("two")
                await first
            else:
                await asyncio.gather(*(each.slow_turn() for each in setups * 2), first)
                said = await setups[0].remembered()
                assert len(said) == 10
                assert said[::2] == [SLOW] * 5
            await setups[1].turn("last")
            assert setups[1].seen()[-1] == "last"
            assert len(setups[1].seen()) % 2 == 1
            assert await setups[0].remembered() == await setups[1].remembered()


async def test_a_replica_that_dies_frees_its_sessions(
    tmp_path: Path, fresh_postgres_url: str
) -> None:
    async with FakeUpstream() as upstream:
        settings = {
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": "sk-test",
            "RUNTIME_DATABASE_URL": fresh_postgres_url,
            "RUNTIME_SECRET_KEY": "k" * 40,
        }
        body: Json = {
            "model": "assistant",
            "messages": [user("delay:50 words:1000")],
            "stream": True,
            "metadata": {"session_id": "trip"},
        }
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        async with (
            process(tmp_path / "a", **settings) as dying,
            process(tmp_path / "b", **settings) as other,
            httpx.AsyncClient(timeout=30) as http,
        ):
            lost = asyncio.create_task(http.post(f"{dying.url}/v1/chat/completions", json=body))
            await upstream.arrived.wait()
            dying._child.kill()
            await asyncio.gather(lost, return_exceptions=True)
            body |= {"messages": [user("two")], "stream": False}
            started = asyncio.get_running_loop().time()
            answer = await http.post(f"{other.url}/v1/chat/completions", json=body)
            took = asyncio.get_running_loop().time() - started
        assert answer.status_code == 200, answer.text
        assert took < 16
        said = [each["content"] for each in upstream.requests[-1].json["messages"]]
        assert said[-1] == "two"
        assert "words:1000" not in str(said)
