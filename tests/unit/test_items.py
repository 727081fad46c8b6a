"""A run's events as the items of a conversation, and items as messages."""

from runtime.domain.events.runs import (
    ReasoningDelta,
    RefusalDelta,
    RunEvent,
    RunStarted,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
)
from runtime.domain.value_objects.chat import ChatRole, Message, ToolCall
from runtime.domain.value_objects.ids import ItemId, RunId
from runtime.domain.value_objects.items import (
    AgentToolItem,
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
    items_of,
    messages_of,
)

RUN = RunId("run_0a")


def said(text: str, refusal: str | None = None) -> Message:
    return Message(ChatRole.ASSISTANT, text, refusal=refusal)


def test_output_becomes_items_in_the_order_in_which_they_began() -> None:
    events: list[RunEvent] = [
        RunStarted(RUN),
        ReasoningDelta("Let me "),
        ReasoningDelta("see."),
        TextDelta("I look "),
        TextDelta("it up."),
        ToolCalled("c1", "search", "{}"),
        ToolCalled("c2", "clock", "{}"),
        ToolReturned("c2", "clock", "error", "broken", 1.0),
        ToolReturned("c1", "search", "success", "found", 1.0),
        TextDelta("There."),
        ToolCallDelta(0, "x1", "pay", '{"a"'),
        ToolCallDelta(1, "x2", "ship", "{}"),
        ToolCallDelta(0, arguments=":1}"),
    ]

    assert items_of(RUN, events) == [
        ReasoningItem(ItemId("rs_0a0000"), "Let me see."),
        MessageItem(ItemId("msg_0a0001"), said("I look it up.")),
        AgentToolItem(ItemId("mcp_0a0002"), "c1", "search", "{}", output="found"),
        AgentToolItem(ItemId("mcp_0a0003"), "c2", "clock", "{}", error="broken"),
        MessageItem(ItemId("msg_0a0004"), said("There.")),
        FunctionCallItem(ItemId("fc_0a0005"), ToolCall("x1", "pay", '{"a":1}')),
        FunctionCallItem(ItemId("fc_0a0006"), ToolCall("x2", "ship", "{}")),
    ]


def test_a_tool_that_did_not_return_is_incomplete() -> None:
    (item,) = items_of(RUN, [ToolCalled("c1", "search", "{}")])

    assert isinstance(item, AgentToolItem)
    assert (item.status, item.output, item.error) == ("incomplete", None, None)


def test_a_refusal_is_a_message_without_text() -> None:
    (item,) = items_of(RUN, [RefusalDelta("I can't "), RefusalDelta("do that.")])

    assert item == MessageItem(ItemId("msg_0a0000"), said("", refusal="I can't do that."))


def test_items_are_read_as_messages_with_what_belongs_together_in_one() -> None:
    call, other = ToolCall("x1", "pay", "{}"), ToolCall("x2", "ship", "{}")
    items: list[Item] = [
        MessageItem(ItemId("msg_1"), Message(ChatRole.USER, "Pay and ship.")),
        ReasoningItem(ItemId("rs_1"), "Hm."),
        MessageItem(ItemId("msg_2"), said("I will.")),
        AgentToolItem(ItemId("mcp_1"), "c1", "search", "{}", output="found"),
        FunctionCallItem(ItemId("fc_1"), call),
        FunctionCallItem(ItemId("fc_2"), other),
        FunctionOutputItem(ItemId("fco_1"), "x1", "paid"),
        FunctionOutputItem(ItemId("fco_2"), "x2", "shipped"),
        MessageItem(ItemId("msg_3"), said("Done.")),
    ]

    assert messages_of(items) == [
        Message(ChatRole.USER, "Pay and ship."),
        Message(ChatRole.ASSISTANT, "I will.", tool_calls=(call, other)),
        Message(ChatRole.TOOL, "paid", tool_call_id="x1"),
        Message(ChatRole.TOOL, "shipped", tool_call_id="x2"),
        said("Done."),
    ]
