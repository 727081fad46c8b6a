"""`ai-sdk`: the UI message stream of the AI SDK, version 1, which `useChat` reads.

Its readers refuse keys that they don't know: what is more to say is metadata.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from runtime.application.services.generation.sources import Batch
from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
)
from runtime.infrastructure.web.streaming.encoders import MARK, Encoder, frame, halves
from runtime.infrastructure.web.streaming.events import failure, usage_object

_OWN: dict[str, Any] = {"providerExecuted": True, "dynamic": True}
"""Of a tool that the agent calls itself: no client is to call it again."""


@dataclass
class _Part:
    kind: str
    id: str


@dataclass
class _Progress:
    """How far one source's answer has come."""

    metadata: Mapping[str, Any]
    open: _Part | None = None
    halves: tuple[bytes, bytes] = (b"", b"")
    calls: dict[int, "_Call"] = field(default_factory=dict)
    returned: bool = False
    """Whether a tool's result was the last thing to come."""


@dataclass
class _Call:
    id: str
    name: str
    arguments: str = ""


class AiSdkEncoder(Encoder):
    headers: ClassVar[Mapping[str, str]] = {"x-vercel-ai-ui-message-stream": "v1"}

    def __init__(self, names: Sequence[str], *, tagged: bool = False) -> None:
        super().__init__(names, tagged=tagged)
        self._sources = [
            _Progress({"providerMetadata": {"runtime": {"source": name}}} if tagged else {})
            for name in names
        ]
        self._begun = False
        self._parts = 0
        self._citations = 0
        self._metadata: dict[str, Any] = {}

    def encode(self, batch: Batch) -> bytes:
        out = bytearray()
        progress = self._sources[batch[0].source]
        for each in batch:
            event = each.event
            if type(event) is TextDelta and progress.open and progress.open.kind == "text":
                before, after = progress.halves
                out += b"%b%b%b" % (before, orjson.dumps(event.text), after)
            else:
                out += self._other(each.source, progress, event)
        return bytes(out)

    def fail(self, error: BaseException) -> bytes:
        return self._start({}) + frame({"type": "error", "errorText": failure(error)["error"]})

    def end(self) -> bytes:
        told = {"messageMetadata": self._metadata} if self._metadata else {}
        finish = frame({"type": "finish-step"}) + frame({"type": "finish", **told})
        return self._start({}) + finish + b"data: [DONE]\n\n"

    def _other(self, source: int, progress: _Progress, event: RunEvent) -> bytes:
        match event:
            case RunStarted():
                return self._start({"messageId": event.run_id})
            case TextDelta() | RefusalDelta():
                return self._delta(progress, "text", event.text)
            case ReasoningDelta():
                return self._delta(progress, "reasoning", event.text)
            case ToolCallDelta():
                return self._call(progress, event)
            case ToolCalled():
                return self._own_call(progress, event)
            case ToolReturned():
                progress.returned = True
                return frame(_returned(event))
            case AnnotationsAdded():
                return b"".join(map(self._citation, event.annotations))
            case RunCompleted():
                return self._completed(source, progress, event)
            case RunFailed() | RunCancelled() if self.tagged:
                error = event.error if isinstance(event, RunFailed) else None
                return self._failed(source, progress, error)
        return b""

    def _start(self, more: Mapping[str, Any]) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return frame({"type": "start", **more}) + frame({"type": "start-step"})

    def _delta(self, progress: _Progress, kind: str, text: str) -> bytes:
        begun = b""
        if progress.open is None or progress.open.kind != kind:
            begun = self._opened(progress, kind)
        before, after = progress.halves
        return begun + before + orjson.dumps(text) + after

    def _opened(self, progress: _Progress, kind: str) -> bytes:
        closed = self._closed(progress) + self._step(progress)
        self._parts += 1
        part = progress.open = _Part(kind, f"{kind}-{self._parts}")
        before, after = halves({"type": f"{kind}-delta", "id": part.id, "delta": MARK})
        progress.halves = (b"data: " + before, after + b"\n\n")
        return closed + frame({"type": f"{kind}-start", "id": part.id, **progress.metadata})

    def _closed(self, progress: _Progress) -> bytes:
        part, progress.open = progress.open, None
        return frame({"type": f"{part.kind}-end", "id": part.id}) if part else b""

    def _step(self, progress: _Progress) -> bytes:
        """What comes after a tool's result is the model's next step."""
        returned, progress.returned = progress.returned, False
        if not returned or self.tagged:
            return b""
        return frame({"type": "finish-step"}) + frame({"type": "start-step"})

    def _call(self, progress: _Progress, event: ToolCallDelta) -> bytes:
        out = b""
        call = progress.calls.get(event.index)
        if call is None:
            call = progress.calls[event.index] = _Call(event.call_id, event.name)
            out = self._closed(progress) + self._step(progress)
            out += frame({"type": "tool-input-start", "toolCallId": call.id, "toolName": call.name})
        if not event.arguments:
            return out
        call.arguments += event.arguments
        delta = {"toolCallId": call.id, "inputTextDelta": event.arguments}
        return out + frame({"type": "tool-input-delta", **delta})

    def _own_call(self, progress: _Progress, event: ToolCalled) -> bytes:
        named = {"toolCallId": event.call_id, "toolName": event.name}
        start = frame({"type": "tool-input-start", **named, **_OWN})
        input = _parsed(event.arguments, event.arguments)
        whole = {"type": "tool-input-available", **named, "input": input, **_OWN}
        # Calls that a model makes at once come one behind the other, with results in between.
        return self._closed(progress) + start + frame(whole)

    def _citation(self, annotation: Mapping[str, Any]) -> bytes:
        cited = annotation.get("url_citation")
        if not isinstance(cited, Mapping) or not isinstance(cited.get("url"), str):
            return b""
        self._citations += 1
        title = {"title": cited["title"]} if isinstance(cited.get("title"), str) else {}
        id = f"source-{self._citations}"
        return frame({"type": "source-url", "sourceId": id, "url": cited["url"], **title})

    def _completed(self, source: int, progress: _Progress, event: RunCompleted) -> bytes:
        calls = b"".join(frame(_called(call)) for call in progress.calls.values())
        ended = {"finishReason": event.finish_reason, "usage": usage_object(event.usage)}
        self._note(source, ended)
        return self._closed(progress) + calls

    def _failed(self, source: int, progress: _Progress, error: BaseException | None) -> bytes:
        told = failure(error) if error else {"error": "It was cancelled.", "code": "cancelled"}
        self._note(source, {"finishReason": "error", **told})
        data = {"source": self.names[source], **told}
        return self._closed(progress) + frame({"type": "data-error", "data": data})

    def _note(self, source: int, ended: dict[str, Any]) -> None:
        if self.tagged:
            self._metadata.setdefault("sources", {})[self.names[source]] = ended
        else:
            self._metadata = ended


def _returned(event: ToolReturned) -> dict[str, Any]:
    named = {"toolCallId": event.call_id, **_OWN}
    if event.status == "error":
        return {"type": "tool-output-error", "errorText": event.output, **named}
    output = _parsed(event.output, event.output)
    return {"type": "tool-output-available", "output": output, **named}


def _called(call: _Call) -> dict[str, Any]:
    named = {"toolCallId": call.id, "toolName": call.name}
    arguments = call.arguments or "{}"
    input = _parsed(arguments, None)
    if input is None:
        problem = "The model's arguments are no JSON."
        return {"type": "tool-input-error", **named, "input": arguments, "errorText": problem}
    return {"type": "tool-input-available", **named, "input": input}


def _parsed(text: str, otherwise: str | None) -> Any:  # noqa: ANN401 - JSON
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return otherwise
