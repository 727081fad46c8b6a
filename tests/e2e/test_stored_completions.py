"""`store: true`, with the official SDK. Every answer is held to OpenAI's schemas by the server."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from runtime.infrastructure.container import utc_now
from tests.e2e.server import Served, serving
from tests.upstream import FakeUpstream, faults

HELLO: Any = [{"role": "user", "content": "Hello out there"}]


async def keep(runtime: Served, **options: Any) -> Any:  # noqa: ANN401 - the SDK's overloads
    asked = {"model": "assistant", "messages": HELLO, "store": True, **options}
    return await runtime.openai.chat.completions.create(**asked)


async def ids_of(runtime: Served, **query: Any) -> list[str]:  # noqa: ANN401 - as in the SDK
    return [each.id async for each in runtime.openai.chat.completions.list(**query)]


async def test_an_answer_is_kept_as_it_was_given(runtime: Served) -> None:
    given = await keep(runtime, metadata={"team": "blue"})
    kept = await runtime.openai.chat.completions.retrieve(given.id)

    assert kept.metadata == {"team": "blue"}
    assert given.metadata is None
    assert kept.model_copy(update={"metadata": None}) == given


async def test_it_is_there_when_the_stream_says_so(runtime: Served) -> None:
    chunks = [chunk async for chunk in await keep(runtime, stream=True, n=2)]
    kept = await runtime.openai.chat.completions.retrieve(chunks[0].id)

    assert (kept.created, kept.system_fingerprint) == (
        chunks[0].created,
        chunks[0].system_fingerprint,
    )
    for choice in kept.choices:
        pieces = [c.choices[0].delta.content or "" for c in chunks if _index(c) == choice.index]
        assert choice.message.content == "".join(pieces) != ""


async def test_choices_and_calls_are_kept_in_order(runtime: Served) -> None:
    weather = {"type": "function", "function": {"name": "get_weather"}}
    asked = [{"role": "user", "content": "get_weather in Oslo please"}]
    given = await keep(runtime, n=3, messages=asked, tools=[weather])
    kept = await runtime.openai.chat.completions.retrieve(given.id)

    assert kept.choices == given.choices
    assert [choice.finish_reason for choice in kept.choices] == ["tool_calls"] * 3
    assert kept.usage == given.usage


async def test_only_what_is_to_be_kept_is_kept(runtime: Served) -> None:
    answer = await runtime.openai.chat.completions.create(model="assistant", messages=HELLO)

    assert await ids_of(runtime) == []
    with pytest.raises(openai.NotFoundError) as error:
        await runtime.openai.chat.completions.retrieve(answer.id)
    assert (error.value.code, error.value.param) == ("completion_not_found", "completion_id")


async def test_an_answer_that_broke_off_is_not_kept(tmp_path: Path) -> None:
    async with (
        FakeUpstream(faults.cut(after=2)) as upstream,
        serving(tmp_path, openai_base_url=upstream.base_url) as runtime,
    ):
        stream = await keep(runtime, stream=True)
        with pytest.raises(openai.APIError):
            [chunk async for chunk in stream]
        assert await ids_of(runtime) == []


async def test_the_list_is_paged_filtered_and_ordered(runtime: Served) -> None:
    await runtime.publish(name="Sales", template_id="langgraph-simple-test")
    blue = [(await keep(runtime, metadata={"team": "blue", "n": str(n)})).id for n in range(3)]
    sales = (await keep(runtime, model="sales", metadata={"team": "red"})).id

    assert await ids_of(runtime, limit=2) == [*blue, sales]
    assert await ids_of(runtime, order="desc", limit=1) == [sales, *blue[::-1]]
    assert await ids_of(runtime, model="sales") == [sales]
    assert await ids_of(runtime, metadata={"team": "blue", "n": "1"}) == [blue[1]]
    assert await ids_of(runtime, metadata={"team": "green"}) == []


async def test_metadata_is_replaced_and_a_completion_deleted(runtime: Served) -> None:
    completions = runtime.openai.chat.completions
    kept = await keep(runtime, metadata={"team": "blue"})

    updated = await completions.update(kept.id, metadata={"stage": "test"})
    assert updated.metadata == {"stage": "test"}
    assert (await completions.update(kept.id, metadata=None)).metadata == {}

    assert (await completions.delete(kept.id)).deleted
    for call in (completions.retrieve(kept.id), completions.delete(kept.id)):
        with pytest.raises(openai.NotFoundError):
            await call


async def test_the_messages_it_answers_can_be_read(runtime: Served) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "Sunny", "tool_call_id": "c1"},
        {"role": "user", "content": [{"type": "text", "text": "And here?"}, image], "name": "ada"},
    ]
    kept = await keep(runtime, messages=asked)
    messages = runtime.openai.chat.completions.messages

    found = [each async for each in messages.list(kept.id, limit=2)]
    assert [(each.role, each.content) for each in found] == [
        ("system", "Be brief."),
        ("assistant", None),
        ("tool", "Sunny"),
        ("user", "And here?"),
    ]
    assert [part.type for part in found[3].content_parts or ()] == ["text", "image_url"]
    newest = await messages.list(kept.id, limit=1, order="desc")
    assert [each.id for each in newest.data] == [found[3].id]
    assert newest.has_more
    with pytest.raises(openai.BadRequestError) as error:
        await messages.list(kept.id, after="nobody")
    assert error.value.param == "after"


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        ({"team": 1}, "metadata.team"),
        ({"team": None}, "metadata.team"),
        ({"team": "x" * 513}, "metadata.team"),
        ({"x" * 65: "blue"}, "metadata"),
        ({f"key{n}": "x" for n in range(17)}, "metadata"),
    ],
)
async def test_metadata_that_is_kept_is_openai_s(
    runtime: Served, metadata: dict[str, Any], param: str
) -> None:
    kept = await keep(runtime)
    for path, body in (
        ("", {"model": "assistant", "messages": HELLO, "store": True, "metadata": metadata}),
        (f"/{kept.id}", {"metadata": metadata}),
    ):
        refused = await runtime.post(f"/v1/chat/completions{path}", body, status=400)
        assert refused["error"]["param"] == param


async def test_what_is_old_is_pruned(runtime: Served) -> None:
    kept = await keep(runtime)
    retention = runtime.container.retention()
    await retention()
    assert await ids_of(runtime) == [kept.id]

    await replace(retention, now=lambda: utc_now() + timedelta(days=31))()
    assert await ids_of(runtime) == []


def _index(chunk: Any) -> int:  # noqa: ANN401 - the SDK's chunk
    return int(chunk.choices[0].index)
