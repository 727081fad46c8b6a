"""`text`: the answer's text and nothing else. A stream that fails has no end."""

from runtime.application.services.generation.sources import Batch
from runtime.domain.events.runs import RefusalDelta, TextDelta
from runtime.infrastructure.web.streaming.encoders import Encoder


class TextEncoder(Encoder):
    media_type = "text/plain"
    tells_apart = False

    def encode(self, batch: Batch) -> bytes:
        return "".join(
            [each.event.text for each in batch if isinstance(each.event, TextDelta | RefusalDelta)]
        ).encode()

    def fail(self, error: BaseException) -> None:
        return None

    def end(self) -> bytes:
        return b""
