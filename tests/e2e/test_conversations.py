"""OpenAI's Conversations API, by the official SDK and by hand."""

from typing import Any

import openai
import pytest

from tests.e2e.server import Json, Served


def user(text: str) -> Any:  # noqa: ANN401 - as in the SDK
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


async def test_a_conversation_is_created_read_described_and_deleted(runtime: Served) -> None:
    conversations = runtime.openai.conversations
    made = await conversations.create(metadata={"topic": "demo"}, items=[user("Hello!")])
    assert (made.object, made.metadata) == ("conversation", {"topic": "demo"})
    assert made.id.startswith("conv_")

    assert await conversations.retrieve(made.id) == made
    described = await conversations.update(made.id, metadata={"topic": "other", "a": "b"})
    assert described.metadata == {"topic": "other", "a": "b"}
    assert described.created_at == made.created_at

    gone = await conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    for again in (conversations.retrieve, conversations.delete):
        with pytest.raises(openai.NotFoundError) as refusal:
            await again(made.id)
        assert refusal.value.code == "conversation_not_found"


async def test_a_conversation_needs_nothing(runtime: Served) -> None:
    made = await runtime.post("/v1/conversations")
    assert made.keys() == {"id", "object", "created_at", "metadata"}
    listed = await runtime.get(f"/v1/conversations/{made['id']}/items")
    assert listed == {
        "object": "list",
        "data": [],
        "first_id": "",
        "last_id": "",
        "has_more": False,
    }


async def test_items_are_listed_newest_first_or_oldest_first_in_pages(runtime: Served) -> None:
    conversations = runtime.openai.conversations
    made = await conversations.create(items=[user(str(n)) for n in range(20)])
    added: Any = await conversations.items.create(
        made.id, items=[user(str(n)) for n in range(20, 25)]
    )
    assert [item.content[0].text for item in added.data] == [str(n) for n in range(20, 25)]
    assert (added.first_id, added.last_id, added.has_more) == (
        added.data[0].id,
        added.data[-1].id,
        False,
    )

    newest = await conversations.items.list(made.id)
    assert (len(newest.data), newest.has_more) == (20, True)
    every: Any = [item async for item in newest]
    assert [item.content[0].text for item in every] == [str(n) for n in reversed(range(25))]
    oldest: Any = [i async for i in await conversations.items.list(made.id, order="asc", limit=7)]
    assert [item.content[0].text for item in oldest] == [str(n) for n in range(25)]


async def test_one_item_is_read_and_removed(runtime: Served) -> None:
    conversations = runtime.openai.conversations
    made = await conversations.create(items=[user("one"), user("two")])
    listed = await conversations.items.list(made.id, order="asc")
    first = listed.data[0]
    assert first.id
    assert await conversations.items.retrieve(first.id, conversation_id=made.id) == first

    left = await conversations.items.delete(first.id, conversation_id=made.id)
    assert left == made
    with pytest.raises(openai.NotFoundError) as refusal:
        await conversations.items.retrieve(first.id, conversation_id=made.id)
    assert refusal.value.code == "item_not_found"
    assert [i.id for i in (await conversations.items.list(made.id)).data] == [listed.data[1].id]


async def test_every_kind_of_item_is_kept_in_openai_s_shape(runtime: Served) -> None:
    items: list[Json] = [
        {"role": "user", "content": "easy"},
        {"role": "assistant", "content": "easy, too"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        },
        {"type": "mcp_call", "id": "m", "server_label": "agent", "name": "s", "arguments": "{}"},
    ]
    made = await runtime.post("/v1/conversations", {"items": items})
    listed = await runtime.get(f"/v1/conversations/{made['id']}/items?order=asc")

    assert [item["type"] for item in listed["data"]] == [
        *("message", "message", "function_call", "function_call_output", "reasoning", "mcp_call"),
    ]
    assert [item["id"].split("_")[0] for item in listed["data"]] == [
        *("msg", "msg", "fc", "fco", "rs", "mcp")
    ]
    assert {item["status"] for item in listed["data"]} == {"completed"}
    assert listed["data"][1]["content"] == [
        {"type": "output_text", "text": "easy, too", "annotations": [], "logprobs": []}
    ]


async def test_chat_completions_go_on_in_a_conversation_and_a_session_is_one(
    runtime: Served,
) -> None:
    conversations = runtime.openai.conversations
    made = await conversations.create(items=[user("My name is Ann.")])
    await runtime.ask("assistant", "And now?", metadata={"session_id": made.id})

    listed = await conversations.items.list(made.id, order="asc")
    roles: Any = [item.role for item in listed.data]  # type: ignore[union-attr]
    assert roles == ["user", "user", "assistant"]
    raw = await runtime.openai.chat.completions.with_raw_response.create(
        model="assistant",
        messages=[{"role": "user", "content": "Hi"}],
        extra_headers={"X-Session-Id": "mine"},
    )
    session = await conversations.retrieve(raw.headers["x-conversation-id"])
    assert session.metadata == {}
    assert len((await conversations.items.list(session.id)).data) == 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [{"type": "hologram"}]}, "items.0"),
        ({"items": [{"role": "user"}]}, "items.0.message.content"),
        ({"items": [{"role": "user", "content": "x"}] * 21}, "items"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"metadata": {f"k{n}": "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, None),
        ({"metadata": []}, "metadata"),
        ({"items": 5}, "items"),
    ],
)
async def test_bad_input_is_refused_by_name(runtime: Served, body: Json, param: str | None) -> None:
    refused = await runtime.post("/v1/conversations", body, status=400)
    assert refused["error"]["type"] == "invalid_request_error"
    if param:
        assert refused["error"]["param"] == param


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "order=up", "limit=x", "after=", "include=everything"]
)
async def test_bad_queries_are_refused(runtime: Served, query: str) -> None:
    made = await runtime.post("/v1/conversations", {})
    path = f"/v1/conversations/{made['id']}/items?{query}"
    status = 200 if query == "after=" else 400
    await runtime.get(path, status=status)


async def test_a_page_after_an_unknown_item_is_not_found(runtime: Served) -> None:
    made = await runtime.post("/v1/conversations", {})
    refused = await runtime.get(f"/v1/conversations/{made['id']}/items?after=msg_404", status=404)
    assert refused["error"]["code"] == "item_not_found"


async def test_what_the_sdk_asks_to_be_included_is_accepted(runtime: Served) -> None:
    made = await runtime.openai.conversations.create(items=[user("one")])
    listed = await runtime.openai.conversations.items.list(
        made.id, include=["reasoning.encrypted_content", "message.output_text.logprobs"]
    )
    assert len(listed.data) == 1
