"""Responses that are turns of a stored conversation."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream

ENDLESS = "delay:20 words:100000"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as served:
        yield served


@pytest.fixture
async def runtime(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Served]:
    asked: Any = {"openai_base_url": upstream.base_url, "openai_api_key": "sk-test"}
    async with serving(tmp_path, **asked) as served:
        yield served


@pytest.fixture
async def talk(runtime: Served) -> str:
    return (await runtime.openai.conversations.create()).id


async def items(runtime: Served, talk: str) -> list[Json]:
    found: list[Json] = (await runtime.get(f"/v1/conversations/{talk}/items?order=asc"))["data"]
    return found


async def test_a_turn_is_read_by_the_next_one(
    runtime: Served, upstream: FakeUpstream, talk: str
) -> None:
    first = await runtime.openai.responses.create(
        model="assistant", input="One", conversation=talk, instructions="Speak like a pirate."
    )
    stream = await runtime.openai.responses.create(
        model="assistant", input="Two", conversation={"id": talk}, stream=True
    )
    last = [event async for event in stream][-1]

    assert first.conversation
    assert first.conversation.id == talk
    assert last.type == "response.completed"
    assert last.response.conversation
    assert last.response.conversation.id == talk
    told = [m["content"] for m in upstream.requests[-1].json["messages"] if m["role"] != "system"]
    assert told == ["One", "You said: One", "Two"]
    assert "pirate" not in str(upstream.requests[-1].json)


async def test_the_conversation_has_the_items_of_its_responses(runtime: Served, talk: str) -> None:
    answers = [
        await runtime.openai.responses.create(model="assistant", input=text, conversation=talk)
        for text in ("One", "Two")
    ]

    stored = await items(runtime, talk)
    assert [item["role"] for item in stored] == ["user", "assistant"] * 2
    assert [stored[1]["id"], stored[3]["id"]] == [answer.output[0].id for answer in answers]
    given = await runtime.openai.responses.input_items.list(answers[1].id)
    assert [item.id for item in given.data] == [stored[2]["id"]]


async def test_a_function_is_answered_in_the_conversation(runtime: Served, talk: str) -> None:
    pay: Any = {"type": "function", "name": "pay", "parameters": {}, "strict": False}
    asked = await runtime.openai.responses.create(
        model="assistant", input="Please pay {}", conversation=talk, tools=[pay]
    )
    (call,) = asked.output
    assert call.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "paid"}
    answer = await runtime.openai.responses.create(
        model="assistant", input=[output], conversation=talk, tools=[pay]
    )

    assert answer.output_text == "The tool said: paid"
    kinds = [item["type"] for item in await items(runtime, talk)]
    assert kinds == ["message", "function_call", "function_call_output", "message"]


async def test_a_background_response_is_a_turn_too(runtime: Served, talk: str) -> None:
    begun = await runtime.openai.responses.create(
        model="assistant", input="One", conversation=talk, background=True
    )
    found = await runtime.until(
        lambda response: response["status"] == "completed", f"/v1/responses/{begun.id}"
    )

    assert found["conversation"] == {"id": talk}
    assert [item["id"] for item in await items(runtime, talk)][1:] == [found["output"][0]["id"]]


async def test_a_turn_that_is_cancelled_leaves_nothing_in_the_conversation(
    runtime: Served, upstream: FakeUpstream, talk: str
) -> None:
    begun = await runtime.openai.responses.create(
        model="assistant", input=ENDLESS, conversation=talk, background=True
    )
    await upstream.arrived.wait()
    await asyncio.sleep(0.2)
    await runtime.openai.responses.cancel(begun.id)
    after = await runtime.openai.responses.create(
        model="assistant", input="Next", conversation=talk
    )

    assert after.output_text == "You said: Next"
    assert len(await items(runtime, talk)) == 2


async def test_an_unknown_conversation_is_refused_and_nothing_is_stored(runtime: Served) -> None:
    for background in (False, True):
        with pytest.raises(openai.NotFoundError) as refused:
            await runtime.openai.responses.create(
                model="assistant", input="Hi", conversation="conv_404", background=background
            )
        assert refused.value.code == "conversation_not_found"
