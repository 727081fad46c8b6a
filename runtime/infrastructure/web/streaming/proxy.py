"""`proxy`: the events `message`, `error` and `done`, as the model proxy's clients read them."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from runtime.application.services.generation.sources import Batch
from runtime.domain.events.runs import (
    ReasoningDelta,
    RefusalDelta,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
)
from runtime.infrastructure.web.streaming.encoders import MARK, Encoder, halves
from runtime.infrastructure.web.streaming.events import failure, shown


class ProxyEncoder(Encoder):
    """Of a message's types `text`, `reasoning`, `tool_call`, `tool_start` and `tool_end` are the
    answer's; the last message, which is final, tells how it ended."""

    headers: ClassVar[Mapping[str, str]] = {"X-Accel-Buffering": "no"}

    def __init__(self, names: Sequence[str], *, tagged: bool = False) -> None:
        super().__init__(names, tagged=tagged)
        self._tags = [{"source": name} if tagged else {} for name in names]
        self._halves = [halves(_message("text", tag, MARK)) for tag in self._tags]

    def encode(self, batch: Batch) -> bytes:
        out = bytearray()
        source = batch[0].source
        before, after = self._halves[source]
        for each in batch:
            event = each.event
            if type(event) is TextDelta:
                out += b"event: message\ndata: %b%b%b\n\n" % (
                    before,
                    orjson.dumps(event.text),
                    after,
                )
            elif message := self._shown(event, self._tags[source]):
                out += _frame("message", message)
        return bytes(out)

    def fail(self, error: BaseException) -> bytes:
        return _frame("error", failure(error))

    def end(self) -> bytes:
        done = _frame("done", {"status": "completed"})
        return _frame("message", _message("finish", {}, final=True)) + done if self.tagged else done

    def _shown(self, event: RunEvent, tag: Mapping[str, Any]) -> dict[str, Any] | None:
        match event:
            case RefusalDelta():
                return _message("text", tag, event.text)
            case ReasoningDelta():
                return _message("reasoning", tag, event.text)
            case ToolCallDelta():
                return _message("tool_call", {**tag, **_data(event)}, event.arguments)
            case ToolCalled():
                return _message("tool_start", {**tag, **_data(event)})
            case ToolReturned():
                return _message("tool_end", {**tag, **_data(event)})
            case RunCompleted():
                return _message("finish", {**tag, **_data(event)}, final=not self.tagged)
            case RunFailed() | RunCancelled() if self.tagged:
                return _message("error", {**tag, **_data(event)})
        return None


def _data(event: RunEvent) -> dict[str, Any]:
    named = shown(event)
    return named[1] if named else {}


def _message(
    kind: str, metadata: Mapping[str, Any], delta: str = "", *, final: bool = False
) -> dict[str, Any]:
    return {"delta": delta, "type": kind, "metadata": metadata, "is_final": final}


def _frame(name: str, payload: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(payload))
