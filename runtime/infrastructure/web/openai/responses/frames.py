"""A run's events as the server-sent events of a response: `ResponseStreamEvent` of OpenAI's
OpenAPI description. The same run gives the same frames, whoever encodes it."""

from dataclasses import replace
from typing import Any

import orjson

from runtime.domain.entities.responses import Response
from runtime.domain.events.runs import (
    ReasoningDelta,
    RefusalDelta,
    RunEvent,
    TextDelta,
    ToolCallDelta,
)
from runtime.domain.value_objects.answers import tokens
from runtime.domain.value_objects.items import (
    AgentToolItem,
    FunctionCallItem,
    Item,
    ItemBegan,
    ItemStatus,
    MessageItem,
    OutputItems,
    ReasoningItem,
)
from runtime.infrastructure.web.errors import Refusal
from runtime.infrastructure.web.openai.items import log_probs, output_text, wire_of
from runtime.infrastructure.web.openai.responses.out import EVENT_OF, response_out

_NUMBER = 1_234_567_890
"""Stands for a sequence number in a frame that is made beforehand."""
_TEXT = "\x00"


class ResponseFrames:
    """Text, which is nearly all of a stream, is put between pieces of a frame made beforehand."""

    def __init__(self, response: Response, after: int = -1) -> None:
        """Frames up to the sequence number `after` are counted, but not made."""
        self.output = OutputItems(response.run_id)
        self._response = response
        self._after = after
        self._next = 0
        self._item = 0
        """Where the last item that is text stands."""
        self._part: type[RunEvent] | None = None
        """The kind of text that its open part takes."""
        self._parts = 0
        self._pieces: list[str] = []
        self._logprobs: list[Any] = []
        self._halves = (b"", b"", b"")

    def begin(self) -> bytes:
        response = response_out(self._response)
        return self._frame("response.created", response=response) + self._frame(
            "response.in_progress", response=response
        )

    def add(self, event: RunEvent) -> bytes:
        changes = self.output.add(event)
        if not changes and type(event) is self._part and not getattr(event, "logprobs", None):
            return self._more(event.text)  # type: ignore[union-attr]
        frames = b""
        for change in changes:
            begins = isinstance(change, ItemBegan)
            frames += (self._began if begins else self._ended)(change.index, change.item)
        match event:
            case TextDelta() | RefusalDelta() | ReasoningDelta():
                frames += self._text(event)
            case ToolCallDelta() if event.arguments:
                index = self.output.index_of_call(event.index)
                frames += self._frame(
                    "response.function_call_arguments.delta",
                    **self._at(index),
                    delta=event.arguments,
                )
        return frames

    def close(self, status: ItemStatus) -> bytes:
        """End what is still open; then the output is whole."""
        return b"".join(
            self._ended(change.index, change.item) for change in self.output.end(status)
        )

    def end(self, response: Response) -> bytes:
        return self._frame(EVENT_OF[response.status], response=response_out(response))

    def broken(self, refusal: Refusal) -> bytes:
        """Where the response can't be told to its end."""
        error = refusal.openai()
        return self._frame(
            "error", code=error["code"], message=error["message"], param=error["param"]
        )

    def _began(self, index: int, item: Item) -> bytes:
        added = wire_of(item)
        match item:
            case MessageItem() | ReasoningItem():
                self._item, self._parts = index, 0
                added["content"] = []
            case AgentToolItem(arguments=arguments):
                at = self._at(index)
                return (
                    self._frame(
                        "response.output_item.added",
                        output_index=index,
                        item=wire_of(replace(item, arguments="")),
                    )
                    + self._frame("response.mcp_call.in_progress", **at)
                    + self._frame("response.mcp_call_arguments.delta", **at, delta=arguments)
                    + self._frame("response.mcp_call_arguments.done", **at, arguments=arguments)
                )
        return self._frame("response.output_item.added", output_index=index, item=added)

    def _ended(self, index: int, item: Item) -> bytes:
        frames = b""
        match item:
            case MessageItem() | ReasoningItem():
                frames = self._end_part()
            case FunctionCallItem(call=call):
                frames = self._frame(
                    "response.function_call_arguments.done",
                    **self._at(index),
                    name=call.name,
                    arguments=call.arguments,
                )
            case AgentToolItem():
                outcome = "failed" if item.output is None else "completed"
                frames = self._frame(f"response.mcp_call.{outcome}", **self._at(index))
        return frames + self._frame(
            "response.output_item.done", output_index=index, item=wire_of(item)
        )

    def _text(self, event: TextDelta | RefusalDelta | ReasoningDelta) -> bytes:
        begun = b"" if type(event) is self._part else self._begin_part(type(event))
        logprobs = _logprobs(event)
        if not logprobs:
            return begun + self._more(event.text)
        self._pieces.append(event.text)
        self._logprobs += logprobs
        delta = {"delta": event.text, "logprobs": log_probs(logprobs)}
        return begun + self._frame("response.output_text.delta", **self._in_part(), **delta)

    def _more(self, text: str) -> bytes:
        self._pieces.append(text)
        number, self._next = self._next, self._next + 1
        if number <= self._after:
            return b""
        before, between, behind = self._halves
        return b"%b%d%b%b%b" % (before, number, between, orjson.dumps(text), behind)

    def _begin_part(self, kind: type[TextDelta | RefusalDelta | ReasoningDelta]) -> bytes:
        ended = self._end_part()
        self._part = kind
        at = self._in_part()
        added = self._frame("response.content_part.added", **at, part=_part(kind, ""))
        extra: dict[str, Any] = {"logprobs": []} if kind is TextDelta else {}
        frame = _encoded(f"{_EVENT[kind]}.delta", _NUMBER, **at, delta=_TEXT, **extra)
        before, rest = frame.split(b"%d" % _NUMBER)
        between, behind = rest.split(orjson.dumps(_TEXT))
        self._halves = (before, between, behind)
        return ended + added

    def _end_part(self) -> bytes:
        if self._part is None:
            return b""
        kind, text, logprobs = self._part, "".join(self._pieces), self._logprobs
        at = self._in_part()
        done = {_FIELD[kind]: text} | (
            {"logprobs": log_probs(logprobs)} if kind is TextDelta else {}
        )
        frames = self._frame(f"{_EVENT[kind]}.done", **at, **done) + self._frame(
            "response.content_part.done", **at, part=_part(kind, text, logprobs)
        )
        self._part, self._pieces, self._logprobs = None, [], []
        self._parts += 1
        return frames

    def _in_part(self) -> dict[str, Any]:
        return {**self._at(self._item), "content_index": self._parts}

    def _at(self, index: int) -> dict[str, Any]:
        return {"item_id": self.output.items[index].id, "output_index": index}

    def _frame(self, kind: str, **fields: Any) -> bytes:  # noqa: ANN401 - JSON
        number, self._next = self._next, self._next + 1
        return b"" if number <= self._after else _encoded(kind, number, **fields)


_EVENT: dict[type[RunEvent], str] = {
    TextDelta: "response.output_text",
    RefusalDelta: "response.refusal",
    ReasoningDelta: "response.reasoning_text",
}
_FIELD: dict[type[RunEvent], str] = {
    TextDelta: "text",
    RefusalDelta: "refusal",
    ReasoningDelta: "text",
}


def _logprobs(event: RunEvent) -> list[Any]:
    if not isinstance(event, TextDelta) or event.logprobs is None:
        return []
    return list(tokens(event.logprobs.get("content")))


def _part(kind: type[RunEvent], text: str, logprobs: list[Any] | None = None) -> dict[str, Any]:
    if kind is TextDelta:
        return output_text(text, logprobs or ())
    if kind is RefusalDelta:
        return {"type": "refusal", "refusal": text}
    return {"type": "reasoning_text", "text": text}


def _encoded(kind: str, number: int, **fields: Any) -> bytes:  # noqa: ANN401 - JSON
    data = orjson.dumps({"type": kind, "sequence_number": number, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
