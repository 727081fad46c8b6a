"""A run's events as the items of a conversation, and items as messages."""

from runtime.application.services.durable.folding import merged
from runtime.domain.events.runs import (
    OutputDiscarded,
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
    ItemBegan,
    ItemEnded,
    MessageItem,
    OutputItems,
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


def test_items_are_told_of_while_they_come() -> None:
    output = OutputItems(RUN)
    told = [
        (type(change), change.index, change.item.id)
        for event in (
            TextDelta("I look "),
            TextDelta("it up."),
            ToolCalled("c1", "search", "{}"),
            ToolReturned("c1", "search", "success", "found", 1.0),
            ToolCallDelta(0, "x1", "pay", '{"a"'),
            ToolCallDelta(0, arguments=":1}"),
        )
        for change in output.add(event)
    ]

    assert told == [
        (ItemBegan, 0, "msg_0a0000"),
        (ItemEnded, 0, "msg_0a0000"),
        (ItemBegan, 1, "mcp_0a0001"),
        (ItemEnded, 1, "mcp_0a0001"),
        (ItemBegan, 2, "fc_0a0002"),
    ]
    (ended,) = output.end()
    assert ended.item == FunctionCallItem(ItemId("fc_0a0002"), ToolCall("x1", "pay", '{"a":1}'))
    assert output.end() == []


def test_what_the_end_of_a_run_leaves_open_says_so() -> None:
    events: list[RunEvent] = [
        ToolCalled("c1", "search", "{}"),
        ToolCallDelta(0, "x1", "pay"),
        TextDelta("Half a"),
    ]

    items = items_of(RUN, events, "incomplete")
    assert [getattr(item, "status", None) for item in items] == ["incomplete"] * 3


def test_text_after_a_refusal_is_a_message_of_its_own() -> None:
    first, second = items_of(RUN, [TextDelta("I"), RefusalDelta("can't."), TextDelta("But…")])

    assert first == MessageItem(ItemId("msg_0a0000"), said("I", refusal="can't."))
    assert second == MessageItem(ItemId("msg_0a0001"), said("But…"))


def test_a_message_has_the_log_probabilities_of_its_tokens() -> None:
    token = {"token": "a", "logprob": -0.5}
    (item,) = items_of(RUN, [TextDelta("a", {"content": [token]}), TextDelta("b")])

    assert isinstance(item, MessageItem)
    assert item.logprobs == (token,)


def test_pieces_of_text_taken_together_give_the_same_items() -> None:
    events: list[RunEvent] = [
        *(TextDelta("a"), TextDelta("b"), ReasoningDelta("c"), ReasoningDelta("d")),
        *(TextDelta("e"), TextDelta("f", {"content": []}), ToolCalled("c1", "x", "{}")),
        *(TextDelta("g"), ReasoningDelta("h")),
    ]
    fewer = merged(events)

    assert fewer == [
        *(TextDelta("ab"), ReasoningDelta("cd"), TextDelta("e"), TextDelta("f", {"content": []})),
        *(ToolCalled("c1", "x", "{}"), TextDelta("g"), ReasoningDelta("h")),
    ]
    assert items_of(RUN, fewer) == items_of(RUN, events)


def test_an_item_that_is_said_again_has_the_id_under_which_readers_heard_it() -> None:
    events: list[RunEvent] = [
        RunStarted(RUN),
        ReasoningDelta("Hm."),
        TextDelta("The first "),
        TextDelta("try"),
        OutputDiscarded(1),
        TextDelta("The second"),
        ToolCallDelta(0, "x1", "pay", "{}"),
    ]
    stream = OutputItems(RUN)
    begun = [c.item.id for event in events for c in stream.add(event) if isinstance(c, ItemBegan)]

    assert begun == ["rs_0a0000", "msg_0a0001", "msg_0a0002", "fc_0a0003"]
    assert items_of(RUN, events) == [
        MessageItem(ItemId("msg_0a0002"), said("The second")),
        FunctionCallItem(ItemId("fc_0a0003"), ToolCall("x1", "pay", "{}")),
    ]


def test_of_an_item_that_was_discarded_in_part_the_rest_counts() -> None:
    events: list[RunEvent] = [
        TextDelta("I look it up. "),
        TextDelta("It was "),
        ToolCalled("c1", "search", "{}"),
        ToolReturned("c1", "search", "success", "found", 1.0),
        OutputDiscarded(1),
        TextDelta("It is"),
    ]

    assert items_of(RUN, events, "incomplete") == [
        MessageItem(ItemId("msg_0a0000"), said("I look it up. ")),
        AgentToolItem(ItemId("mcp_0a0001"), "c1", "search", "{}", output="found"),
        MessageItem(ItemId("msg_0a0002"), said("It is"), "incomplete"),
    ]
