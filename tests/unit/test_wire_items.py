"""Between OpenAI's items and the runtime's."""

from dataclasses import replace
from typing import Any

import pytest
from openai.types.conversations import ConversationItem
from pydantic import TypeAdapter, ValidationError

from runtime.domain.value_objects.chat import AudioPart, ChatRole, ImagePart, Message, TextPart
from runtime.domain.value_objects.ids import ItemId
from runtime.domain.value_objects.items import AgentToolItem, FunctionOutputItem, Item, MessageItem
from runtime.infrastructure.web.openai.items import InputItem, item_of, wire_of

ADAPTER: TypeAdapter[Any] = TypeAdapter(InputItem)
SDK: TypeAdapter[Any] = TypeAdapter(ConversationItem)


def read(**wire: object) -> Item:
    return item_of(ADAPTER.validate_python(wire))


FULL: list[dict[str, Any]] = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_image", "image_url": "https://x.test/a.png", "detail": "low"},
            {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,YQ=="},
        ],
    },
    {
        "type": "message",
        "role": "assistant",
        "status": "incomplete",
        "content": [{"type": "output_text", "text": "Yes", "annotations": [], "logprobs": []}],
    },
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "No."}],
    },
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "42"},
    {
        "type": "function_call_output",
        "call_id": "c1",
        "output": [{"type": "input_text", "text": "42"}],
    },
    {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    },
    {
        "type": "mcp_call",
        "server_label": "agent",
        "name": "search",
        "arguments": "{}",
        "output": "found",
        "error": None,
    },
    {
        "type": "mcp_call",
        "server_label": "agent",
        "name": "search",
        "arguments": "{}",
        "error": {
            "type": "mcp_tool_execution_error",
            "content": [{"type": "text", "text": "it broke"}],
        },
        "status": "failed",
    },
]


@pytest.mark.parametrize("wire", FULL)
def test_what_comes_in_goes_out_the_same(wire: dict[str, Any]) -> None:
    out = wire_of(read(**wire))

    assert wire.items() <= {**out, "content": _sent(out)}.items()
    assert SDK.validate_python(out).type == wire["type"]


def _sent(out: dict[str, Any]) -> object:
    """OpenAI fills in an image's other source."""
    parts = out.get("content")
    if isinstance(parts, list):
        return [{k: v for k, v in part.items() if k != "file_id"} for part in parts]
    return parts


@pytest.mark.parametrize("wire", FULL)
def test_what_goes_out_may_come_in_again(wire: dict[str, Any]) -> None:
    first = read(**wire)
    again = read(**wire_of(first))

    if isinstance(first, AgentToolItem):
        assert isinstance(again, AgentToolItem)
        first, again = replace(first, call_id=""), replace(again, call_id="")
    assert again.id != first.id
    assert replace(again, id=first.id) == first


@pytest.mark.parametrize("role", ["user", "system", "developer", "assistant"])
def test_an_easy_message_needs_no_type(role: str) -> None:
    item = read(role=role, content="Hi")

    assert isinstance(item, MessageItem)
    assert item.message == Message(ChatRole(role), "Hi")
    assert item.id.startswith("msg_")


def test_a_text_of_an_assistant_is_output_all_others_are_input() -> None:
    assert wire_of(read(role="assistant", content="Hi"))["content"] == [
        {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}
    ]
    assert wire_of(read(role="user", content="Hi"))["content"] == [
        {"type": "input_text", "text": "Hi"}
    ]


def test_an_empty_answer_is_an_empty_text() -> None:
    parts = wire_of(MessageItem(ItemId("msg_1"), Message(ChatRole.ASSISTANT, "")))["content"]
    assert [part["text"] for part in parts] == [""]


def test_content_that_chat_completions_know_is_shown_whole() -> None:
    content = (TextPart("a"), ImagePart("https://x.test/a.png"), AudioPart("YQ==", "wav"))
    shown = wire_of(FunctionOutputItem(ItemId("fco_1"), "c1", content))["output"]

    assert [part["type"] for part in shown] == ["input_text", "input_image", "input_file"]
    assert shown[1]["detail"] == "auto"
    assert shown[2]["file_data"] == "data:audio/wav;base64,YQ=="


@pytest.mark.parametrize(
    "error", ["it broke", {"type": "mcp_protocol_error", "code": 1, "message": "it broke"}]
)
def test_an_error_in_another_form_is_read_too(error: object) -> None:
    item = read(type="mcp_call", server_label="s", name="f", arguments="{}", error=error)
    assert isinstance(item, AgentToolItem)
    assert item.error == "it broke"


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ({"type": "hologram"}, "an item is a message"),
        ({"type": 3}, "an item is a message"),
        ({"role": "user"}, "Field required"),
        ({"role": "wizard", "content": "Hi"}, "'user'"),
        ({"role": "user", "content": [{"type": "output_text", "text": "a"}]}, "input_text"),
        ({"type": "function_call", "call_id": "c", "name": "f"}, "Field required"),
    ],
)
def test_what_is_no_item_is_refused(wire: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(wire)
