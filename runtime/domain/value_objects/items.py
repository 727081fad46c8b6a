"""What a conversation is made of, in order: messages, calls and their results, thoughts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runtime.domain.events.runs import (
    ReasoningDelta,
    RefusalDelta,
    RunEvent,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
)
from runtime.domain.value_objects.answers import extended
from runtime.domain.value_objects.chat import ChatRole, Content, Message, ToolCall
from runtime.domain.value_objects.ids import ItemId, RunId

ItemStatus = Literal["in_progress", "completed", "incomplete"]


@dataclass(frozen=True, slots=True)
class MessageItem:
    id: ItemId
    message: Message
    """Without tool calls: each is an item of its own."""
    status: ItemStatus = "completed"


@dataclass(frozen=True, slots=True)
class FunctionCallItem:
    """A call that the caller is to make."""

    id: ItemId
    call: ToolCall
    status: ItemStatus = "completed"


@dataclass(frozen=True, slots=True)
class FunctionOutputItem:
    """What the caller's function gave."""

    id: ItemId
    call_id: str
    output: Content


@dataclass(frozen=True, slots=True)
class ReasoningItem:
    id: ItemId
    text: str
    status: ItemStatus = "completed"


@dataclass(frozen=True, slots=True)
class AgentToolItem:
    """A call of one of the agent's own tools, with its outcome."""

    id: ItemId
    call_id: str
    name: str
    arguments: str
    output: str | None = None
    error: str | None = None
    status: ItemStatus = "completed"


Item = MessageItem | FunctionCallItem | FunctionOutputItem | ReasoningItem | AgentToolItem


def messages_of(items: Iterable[Item]) -> list[Message]:
    """Items as a model reads them. What the assistant says and calls in a row is one message;
    its thoughts and the calls of its own tools are its affair and left out."""
    messages: list[Message] = []
    for item in items:
        match item:
            case MessageItem(message=message):
                _append(messages, message)
            case FunctionCallItem(call=call):
                _append(messages, Message(ChatRole.ASSISTANT, tool_calls=(call,)))
            case FunctionOutputItem():
                messages.append(Message(ChatRole.TOOL, item.output, tool_call_id=item.call_id))
            case ReasoningItem() | AgentToolItem():
                pass
    return messages


def _append(messages: list[Message], message: Message) -> None:
    last = messages[-1] if messages else None
    if last is None or not last.role is message.role is ChatRole.ASSISTANT:
        messages.append(message)
        return
    messages[-1] = replace(
        last,
        content=last.text + message.text,
        tool_calls=last.tool_calls + message.tool_calls,
        refusal=(last.refusal or "") + (message.refusal or "") or None,
    )


def items_of(run_id: RunId, events: Sequence[RunEvent]) -> list[Item]:
    """The output of a run as items, in the order in which they began.

    Their ids come from the run's, so that whoever folds the same events gets the same items.
    """
    output = _Output(run_id)
    for event in events:
        output.add(event)
    return list(output.items())


class _Output:
    def __init__(self, run_id: RunId) -> None:
        self._run = run_id.removeprefix("run_")
        self._items: list[Item | list[TextDelta | RefusalDelta] | list[ReasoningDelta]] = []
        self._calls: dict[int, int] = {}
        self._tools: dict[str, int] = {}

    def add(self, event: RunEvent) -> None:
        last = self._items[-1] if self._items else None
        match event:
            case TextDelta() | RefusalDelta():
                if isinstance(last, list) and not isinstance(last[0], ReasoningDelta):
                    last.append(event)
                else:
                    self._items.append([event])
            case ReasoningDelta():
                if isinstance(last, list) and isinstance(last[0], ReasoningDelta):
                    last.append(event)
                else:
                    self._items.append([event])
            case ToolCallDelta():
                self._call(event)
            case ToolCalled():
                self._tools[event.call_id] = len(self._items)
                item = AgentToolItem(
                    self._id("mcp"), event.call_id, event.name, event.arguments, status="incomplete"
                )
                self._items.append(item)
            case ToolReturned():
                self._returned(event)
            case _:
                pass

    def items(self) -> Iterator[Item]:
        for index, item in enumerate(self._items):
            if not isinstance(item, list):
                yield item
            elif isinstance(item[0], ReasoningDelta):
                yield ReasoningItem(self._id("rs", index), "".join(each.text for each in item))
            else:
                text = "".join(each.text for each in item if isinstance(each, TextDelta))
                refusal = "".join(each.text for each in item if isinstance(each, RefusalDelta))
                message = Message(ChatRole.ASSISTANT, text, refusal=refusal or None)
                yield MessageItem(self._id("msg", index), message)

    def _call(self, delta: ToolCallDelta) -> None:
        at = self._calls.setdefault(delta.index, len(self._items))
        if at == len(self._items):
            self._items.append(FunctionCallItem(self._id("fc"), extended(None, delta)))
            return
        begun = self._items[at]
        assert isinstance(begun, FunctionCallItem)
        self._items[at] = replace(begun, call=extended(begun.call, delta))

    def _returned(self, event: ToolReturned) -> None:
        at = self._tools.get(event.call_id)
        if at is None:
            return
        called = self._items[at]
        assert isinstance(called, AgentToolItem)
        failed = event.status == "error"
        self._items[at] = replace(
            called,
            output=None if failed else event.output,
            error=event.output if failed else None,
            status="completed",
        )

    def _id(self, prefix: str, index: int | None = None) -> ItemId:
        return ItemId(f"{prefix}_{self._run}{len(self._items) if index is None else index:04x}")
