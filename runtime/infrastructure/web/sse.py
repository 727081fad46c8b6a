from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus

# A stream ends when its run does; the runtime's own drain decides when a run must.
AppStatus.enable_automatic_graceful_drain = False

HEARTBEAT_S = 15


def event_stream(frames: AsyncIterator[bytes]) -> EventSourceResponse:
    """`frames` are complete SSE frames, any number of them in one piece.

    A comment is sent on every long silence, so that no proxy takes the stream for dead.
    """
    return EventSourceResponse(
        frames,
        headers={"Cache-Control": "no-cache, no-store"},
        sep="\n",
        ping=HEARTBEAT_S,
        ping_message_factory=lambda: ServerSentEvent(comment="waiting"),
    )
