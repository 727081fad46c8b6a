"""Formats of a stream by their names, and a generation in one of them."""

import logging
from collections.abc import AsyncGenerator

from starlette.responses import Response

from runtime.application.services.generation.generation import Generation
from runtime.domain.errors import InvalidValue
from runtime.infrastructure.web.sse import BrokenOff, EventStream, Streamed
from runtime.infrastructure.web.streaming.ai_sdk import AiSdkEncoder
from runtime.infrastructure.web.streaming.encoders import EVENTS, Encoder
from runtime.infrastructure.web.streaming.jsonl import JsonLinesEncoder
from runtime.infrastructure.web.streaming.proxy import ProxyEncoder
from runtime.infrastructure.web.streaming.sse import SseEncoder
from runtime.infrastructure.web.streaming.text import TextEncoder

logger = logging.getLogger(__name__)

FORMATS: dict[str, type[Encoder]] = {
    "sse": SseEncoder,
    "text": TextEncoder,
    "jsonl": JsonLinesEncoder,
    "ai-sdk": AiSdkEncoder,
    "proxy": ProxyEncoder,
}
ALIASES = {"raw": "text", "json": "jsonl", "ndjson": "jsonl", "ai_sdk": "ai-sdk"}


def format_of(name: str) -> type[Encoder]:
    """Raises InvalidValue, with the formats there are."""
    if found := FORMATS.get(ALIASES.get(name, name)):
        return found
    raise InvalidValue(
        f"There is no such format; the formats are: {', '.join(FORMATS)}.",
        param="stream_format",
        details={"formats": list(FORMATS)},
    )


def streamed(generation: Generation, format: type[Encoder], headers: dict[str, str]) -> Response:
    names = [source.name for source in generation.sources]
    encoder = format(names, tagged=generation.mixes)
    frames = encoded(generation, encoder)
    headers = {**encoder.headers, **headers}
    if encoder.media_type == EVENTS:
        return EventStream(frames, generation.cancel, headers)
    return Streamed(frames, generation.cancel, headers, encoder.media_type)


async def encoded(generation: Generation, encoder: Encoder) -> AsyncGenerator[bytes]:
    """Raises BrokenOff where it failed in a format that can't say so."""
    try:
        async for batch in generation.batches():
            if frames := encoder.encode(batch):
                yield frames
        last = encoder.fail(generation.failure) if generation.failure else encoder.end()
    # The headers are out: whatever goes wrong has to be said in the stream.
    except Exception as error:
        logger.exception("the stream of run %s broke", generation.id)
        last = encoder.fail(error)
    finally:
        await generation.aclose()
    if last is None:
        raise BrokenOff
    if last:
        yield last
