"""`sse`: `data: {"type": "text-delta", "content": "…"}`, as a browser's EventSource reads it."""

from typing import Any

import orjson

from runtime.application.services.generation.sources import Batch
from runtime.domain.events.runs import TextDelta
from runtime.infrastructure.web.streaming.encoders import TypedEncoder
from runtime.infrastructure.web.streaming.events import failure


class SseEncoder(TypedEncoder):
    """`data` comes before `id`: there are readers that look at the first line alone."""

    _number = 0

    def encode(self, batch: Batch) -> bytes:
        out = bytearray()
        before, after = self._halves[batch[0].source]
        for each in batch:
            event = each.event
            if type(event) is TextDelta:
                self._number += 1
                text = orjson.dumps(event.text)
                out += b"data: %b%b%b\nid: %d\n\n" % (before, text, after, self._number)
            elif payload := self.object(each.source, event):
                out += self.frame(payload)
        return bytes(out)

    def fail(self, error: BaseException) -> bytes:
        return self.frame({"type": "error", **failure(error)})

    def end(self) -> bytes:
        """Every frame is JSON, this one too: document C's reader parses them all. One source's
        `finish` is the end; of several, it is not known which one's is the last."""
        return self.frame({"type": "done"}) if self.tagged else b""

    def frame(self, payload: dict[str, Any]) -> bytes:
        self._number += 1
        return b"data: %b\nid: %d\n\n" % (orjson.dumps(payload), self._number)
