"""From the bytes of a stream to its events, without any I/O."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runtime.client.errors import StreamBrokenError, UnexpectedAnswerError, streamed
from runtime.client.events import Event, Finish, event_of

_DONE = b"[DONE]"
_MOST_BYTES = 64 * 1024 * 1024
"""Of one line: a server that never ends it must not fill the memory."""


class Decoder(ABC):
    """`feed` it what comes; `end` it where nothing more does."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._done = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Raises what the stream says that it failed with."""
        # Lines end with a line feed: JSON may hold every other thing that Unicode calls one.
        self._unread += data
        *lines, rest = self._unread.split(b"\n")
        self._unread = rest
        if len(rest) > _MOST_BYTES:
            raise UnexpectedAnswerError("A line of the stream does not end.")
        for line in lines:
            if line.startswith(b"data:"):
                yield from self._line(bytes(line[5:]).strip())

    def end(self) -> None:
        """Raises StreamBrokenError."""
        if not self._done:
            raise StreamBrokenError("The answer broke off before its end.")

    def _line(self, data: bytes) -> Iterator[Event]:
        if data == _DONE:
            self._done = True
            yield from self._last()
            return
        try:
            payload = json.loads(data)
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            raise UnexpectedAnswerError("The stream holds something that is no JSON object.")
        yield from self._decoded(payload)

    def _last(self) -> Iterator[Event]:
        return iter(())

    @abstractmethod
    def _decoded(self, payload: Mapping[str, Any]) -> Iterator[Event]: ...


class TypedEvents(Decoder):
    """`{"type": "text-delta", "content": …}`, as the gateway and `/api/streaming` send them."""

    def _decoded(self, payload: Mapping[str, Any]) -> Iterator[Event]:
        kind, source = payload.get("type"), payload.get("source")
        # Of several sources each has a `finish`, and `done` comes after the last.
        self._done = kind == "done" or (kind == "finish" and source is None)
        if kind != "done":
            data = {key: value for key, value in payload.items() if key not in ("type", "source")}
            named = source if isinstance(source, str) else None
            yield event_of(str(kind or ""), data, source=named)


class ChatChunks(Decoder):
    """OpenAI's `chat.completion.chunk`, told as the same events."""

    def __init__(self) -> None:
        super().__init__()
        self._finish: str | None = None
        self._usage: Mapping[str, Any] | None = None

    def _decoded(self, payload: Mapping[str, Any]) -> Iterator[Event]:
        if "error" in payload:
            raise streamed(payload)
        self._usage = payload.get("usage") or self._usage
        for choice in payload.get("choices") or ():
            delta = choice.get("delta") or {}
            for name, type in _TEXTS.items():
                if delta.get(name):
                    yield event_of(type, {"content": delta[name]})
            for call in delta.get("tool_calls") or ():
                yield event_of("tool-call-delta", _call(call))
            self._finish = choice.get("finish_reason") or self._finish

    def _last(self) -> Iterator[Event]:
        yield Finish(type="finish", finish_reason=self._finish or "stop", usage=self._usage)


_TEXTS = {
    "reasoning_content": "reasoning-delta",
    "refusal": "refusal-delta",
    "content": "text-delta",
}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "index": call.get("index", 0),
        "tool_call_id": call.get("id"),
        "tool_name": function.get("name"),
        "arguments": function.get("arguments"),
    }


NewDecoder = Callable[[], Decoder]
