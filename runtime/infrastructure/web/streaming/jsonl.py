"""`jsonl`: the objects of `sse`, one a line, and `{"type": "done"}` where the stream is whole."""

import orjson

from runtime.application.services.generation.sources import Batch
from runtime.domain.events.runs import TextDelta
from runtime.infrastructure.web.sse import in_lines
from runtime.infrastructure.web.streaming.encoders import TypedEncoder
from runtime.infrastructure.web.streaming.events import failure


class JsonLinesEncoder(TypedEncoder):
    media_type = "application/x-ndjson"

    def encode(self, batch: Batch) -> bytes:
        out = bytearray()
        before, after = self._halves[batch[0].source]
        for each in batch:
            event = each.event
            if type(event) is TextDelta:
                out += b"%b%b%b\n" % (before, orjson.dumps(event.text), after)
            elif payload := self.object(each.source, event):
                out += orjson.dumps(payload) + b"\n"
        return in_lines(bytes(out))

    def fail(self, error: BaseException) -> bytes:
        return orjson.dumps({"type": "error", **failure(error)}) + b"\n"

    def end(self) -> bytes:
        return b'{"type":"done"}\n'
