"""What a conversation is made of, in order: messages, calls and their results, thoughts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runtime.domain.events.runs import (
    OutputDiscarded,
    ReasoningDelta,
    RefusalDelta,
    RunEvent,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
)
from runtime.domain.value_objects.answers import tokens
from runtime.domain.value_objects.chat import ChatRole, Content, Message, ToolCall
from runtime.domain.value_objects.ids import ItemId, RunId
from runtime.domain.value_objects.run_logs import counting

ItemStatus = Literal["in_progress", "completed", "incomplete"]


@dataclass(frozen=True, slots=True)
class MessageItem:
    id: ItemId
    message: Message
    """Without tool calls: each is an item of its own."""
    status: ItemStatus = "completed"
    logprobs: Sequence[object] = ()
    """OpenAI's token objects, where they were asked for."""


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


@dataclass(frozen=True, slots=True)
class ItemBegan:
    index: int
    item: Item
    """In progress, and still empty."""


@dataclass(frozen=True, slots=True)
class ItemEnded:
    index: int
    item: Item


ItemChange = ItemBegan | ItemEnded


def items_of(
    run_id: RunId, events: Sequence[RunEvent], status: ItemStatus = "completed"
) -> list[Item]:
    """The output of a run as items, in the order in which they began, without what was discarded.

    Their ids come from the run's, so that whoever folds the same events gets the same items:
    `events` are all of them. `status` is that of what the end of the events leaves open.
    """
    output = OutputItems(run_id)
    if any(isinstance(event, OutputDiscarded) for event in events):
        return _without_discarded(output, events, status)
    for event in events:
        output.add(event)
    output.end(status)
    return output.items


def _without_discarded(
    output: "OutputItems", events: Sequence[RunEvent], status: ItemStatus
) -> list[Item]:
    counted = set[int]()
    numbers = {number for number, _ in counting(events)}
    for number, event in enumerate(events, 1):
        if isinstance(event, OutputDiscarded):
            # What is left of a text that was said in part before counts as it is.
            output.discard("completed")
        elif number in numbers:
            output.add(event)
            counted |= output.touched(event)
        else:
            output.add(_emptied(event))
    output.end(status)
    return [item for at, item in enumerate(output.items) if at in counted]


def _emptied(event: RunEvent) -> RunEvent:
    """What only takes its place among the items."""
    match event:
        case TextDelta():
            return TextDelta("")
        case RefusalDelta() | ReasoningDelta():
            return replace(event, text="")
        case ToolCallDelta():
            return replace(event, arguments="")
    return event


class OutputItems:
    """A run's output while it comes. An item that has begun is whole once it has ended."""

    def __init__(self, run_id: RunId) -> None:
        self.items: list[Item] = []
        self._run = run_id.removeprefix("run_")
        self._open: type[MessageItem | ReasoningItem] | None = None
        """What the last item is, while it is text that may go on."""
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._logprobs: list[object] = []
        self._calls: dict[int, int] = {}
        self._arguments: dict[int, list[str]] = {}
        self._tools: dict[str, int] = {}

    def add(self, event: RunEvent) -> Sequence[ItemChange]:
        match event:
            case TextDelta():
                begun = self._begin_text(MessageItem) if self._refusal else self._in(MessageItem)
                self._text.append(event.text)
                if event.logprobs:
                    self._logprobs += tokens(event.logprobs.get("content"))
                return begun
            case RefusalDelta():
                begun = self._in(MessageItem)
                self._refusal.append(event.text)
                return begun
            case ReasoningDelta():
                begun = self._in(ReasoningItem)
                self._text.append(event.text)
                return begun
            case ToolCallDelta():
                return self._call(event)
            case ToolCalled():
                return self._called(event)
            case ToolReturned():
                return self._returned(event)
            case OutputDiscarded():
                return self.discard("incomplete")
            case _:
                return ()

    def end(self, status: ItemStatus = "completed") -> Sequence[ItemChange]:
        """Close what is open. A tool that has not returned never does."""
        ended = self._end_text(status)
        for call in self._calls:
            ended.append(self._end_call(call, status))
        self._calls.clear()
        for at in self._tools.values():
            called = self.items[at]
            assert isinstance(called, AgentToolItem)
            ended.append(self._ended(at, replace(called, status="incomplete")))
        self._tools.clear()
        return sorted(ended, key=lambda change: change.index)

    def discard(self, status: ItemStatus) -> Sequence[ItemChange]:
        """What is open was said in vain: it is said again as another item."""
        ended = self._end_text(status)
        for call in self._calls:
            ended.append(self._end_call(call, status))
        self._calls.clear()
        return ended

    def touched(self, event: RunEvent) -> set[int]:
        """Where the items stand that an event has just begun or gone on with."""
        match event:
            case TextDelta() | RefusalDelta() | ReasoningDelta() | ToolCalled():
                return {len(self.items) - 1}
            case ToolCallDelta():
                return {self.index_of_call(event.index)}
            case _:
                return set()

    def index_of_call(self, index: int) -> int:
        """Where the item of a ToolCallDelta's index stands, until `end`."""
        return self._calls[index]

    def _in(self, kind: type[MessageItem | ReasoningItem]) -> Sequence[ItemChange]:
        return () if self._open is kind else self._begin_text(kind)

    def _begin_text(self, kind: type[MessageItem | ReasoningItem]) -> Sequence[ItemChange]:
        ended = self._end_text("completed")
        self._open = kind
        if kind is MessageItem:
            empty = Message(ChatRole.ASSISTANT)
            return [*ended, self._began(MessageItem(self._id("msg"), empty, "in_progress"))]
        return [*ended, self._began(ReasoningItem(self._id("rs"), "", "in_progress"))]

    def _end_text(self, status: ItemStatus) -> list[ItemChange]:
        if self._open is None:
            return []
        begun, text = self.items[-1], "".join(self._text)
        if isinstance(begun, MessageItem):
            said = Message(ChatRole.ASSISTANT, text, refusal="".join(self._refusal) or None)
            item: Item = MessageItem(begun.id, said, status, tuple(self._logprobs))
        else:
            item = ReasoningItem(begun.id, text, status)
        self._open = None
        self._text, self._refusal, self._logprobs = [], [], []
        return [self._ended(len(self.items) - 1, item)]

    def _call(self, delta: ToolCallDelta) -> Sequence[ItemChange]:
        changes: list[ItemChange] = []
        if delta.index not in self._calls:
            changes = self._end_text("completed")
            self._calls[delta.index] = len(self.items)
            self._arguments[delta.index] = []
            call = ToolCall(delta.call_id, delta.name, "")
            changes.append(self._began(FunctionCallItem(self._id("fc"), call, "in_progress")))
        self._arguments[delta.index].append(delta.arguments)
        return changes

    def _end_call(self, index: int, status: ItemStatus) -> ItemEnded:
        at = self._calls[index]
        begun = self.items[at]
        assert isinstance(begun, FunctionCallItem)
        call = replace(begun.call, arguments="".join(self._arguments.pop(index)))
        return self._ended(at, FunctionCallItem(begun.id, call, status))

    def _called(self, event: ToolCalled) -> Sequence[ItemChange]:
        ended = self._end_text("completed")
        self._tools[event.call_id] = len(self.items)
        item = AgentToolItem(
            self._id("mcp"), event.call_id, event.name, event.arguments, status="in_progress"
        )
        return [*ended, self._began(item)]

    def _returned(self, event: ToolReturned) -> Sequence[ItemChange]:
        at = self._tools.pop(event.call_id, None)
        if at is None:
            return ()
        called = self.items[at]
        assert isinstance(called, AgentToolItem)
        failed = event.status == "error"
        item = replace(
            called,
            output=None if failed else event.output,
            error=event.output if failed else None,
            status="completed",
        )
        return [self._ended(at, item)]

    def _began(self, item: Item) -> ItemBegan:
        self.items.append(item)
        return ItemBegan(len(self.items) - 1, item)

    def _ended(self, index: int, item: Item) -> ItemEnded:
        self.items[index] = item
        return ItemEnded(index, item)

    def _id(self, prefix: str) -> ItemId:
        return ItemId(f"{prefix}_{self._run}{len(self.items):04x}")
