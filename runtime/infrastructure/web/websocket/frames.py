"""What the runtime says over a WebSocket: `{"message_type": …, "data": {…}}`."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from runtime.application.services.generation.generation import Generation
from runtime.application.services.generation.sources import Sourced
from runtime.domain.events.runs import RunCancelled, RunCompleted, RunStarted, TextDelta
from runtime.infrastructure.web.errors import understand
from runtime.infrastructure.web.streaming.events import shown

_MARK = "\x00"


def frame(message_type: str, data: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"message_type": message_type, "data": data})


def error_frame(error: BaseException, request_id: str | None = None) -> bytes:
    refusal = understand(error)
    told: dict[str, Any] = {"code": refusal.code, "error": refusal.message}
    if refusal.param:
        told["param"] = refusal.param
    if refusal.details:
        told["details"] = refusal.details
    if request_id is not None:
        told["request_id"] = request_id
    return frame("error", {**told, "status": refusal.status})


class StreamFrames:
    """A generation's events as `stream_event` frames, numbered from 1 in each request.

    Text, which is nearly all of a stream, is put between two halves of a frame made beforehand.
    """

    def __init__(
        self, request_id: str, generation: Generation, began: Callable[[str], None]
    ) -> None:
        """`began` is told the id of each run."""
        self._request_id = request_id
        self._began = began
        self._names = [source.name for source in generation.sources]
        self._halves: dict[int, tuple[bytes, bytes]] = {}
        self._completed = False
        self.cancelled = False
        """By the client; then the runs' own ends say nothing new."""

    def encode(self, number: int, sourced: Sourced) -> bytes | None:
        event, source = sourced.event, sourced.source
        if type(event) is TextDelta:
            before, after = self._halves.get(source) or self._halve(source)
            return b"%b%d%b%b%b" % (self._head, number, before, orjson.dumps(event.text), after)
        if isinstance(event, RunStarted):
            self._began(event.run_id)
        elif isinstance(event, RunCompleted):
            self._completed = True
        elif isinstance(event, RunCancelled) and self.cancelled:
            return None
        named = shown(event)
        return named and self._event(number, source, *named)

    def end(self, last: int) -> bytes:
        status = "completed" if self._completed else "failed"
        if self.cancelled:
            status = "cancelled"
        told = {"request_id": self._request_id, "status": status, "last_event": last}
        return frame("stream_end", told)

    def _event(self, number: int, source: int, name: str, data: Mapping[str, Any]) -> bytes:
        told: dict[str, Any] = {
            "request_id": self._request_id,
            "event_number": number,
            "event_type": name,
            "event_data": data,
        }
        if len(self._names) > 1:
            told["source"] = self._names[source]
        return frame("stream_event", told)

    def _halve(self, source: int) -> tuple[bytes, bytes]:
        whole = self._event(0, source, "text-delta", {"content": _MARK})
        self._head, rest = whole.split(b'"event_number":0', 1)
        self._head += b'"event_number":'
        before, after = rest.split(orjson.dumps(_MARK))
        self._halves[source] = before, after
        return before, after
