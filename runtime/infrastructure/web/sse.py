"""Server-sent events as an ASGI response: one task beside the stream's own, none per event.

sse-starlette starts four for each stream and one that polls for as long as the process lives.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HEARTBEAT_S = 15.0
HEARTBEAT = b": waiting\n\n"


class EventStream(Response):
    """`frames` are complete SSE frames, any number of them in one piece.

    A comment is sent on every long silence, so that no proxy takes the stream for dead. `leave`
    is called when the client is gone; it has to make the frames end soon. They are not cancelled:
    that would leave the run's own task behind.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        leave: Callable[[], None],
        headers: Mapping[str, str] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        # Not by the base class, which would announce an empty body.
        self.status_code = 200
        self.background = None
        self.init_headers(
            {"Cache-Control": "no-cache, no-store", "X-Accel-Buffering": "no", **(headers or {})}
        )
        self._frames = frames
        self._leave = leave
        self._heartbeat_s = heartbeat_s
        self._busy = False
        self._sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        watching = asyncio.create_task(self._watch(receive, send))
        try:
            async with aclosing(self._frames):
                start = {"type": "http.response.start", "status": self.status_code}
                await send({**start, "headers": self.raw_headers})
                async for frames in self._frames:
                    self._busy = True
                    await send({"type": "http.response.body", "body": frames, "more_body": True})
                    self._busy, self._sent_at = False, clock()
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        self._sent_at = clock()
        while True:
            silent_s = clock() - self._sent_at
            try:
                async with asyncio.timeout(max(self._heartbeat_s - silent_s, 0.01)):
                    message = await receive()
            except TimeoutError:
                if not self._busy and clock() - self._sent_at >= self._heartbeat_s:
                    await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
                    self._sent_at = clock()
                continue
            if message["type"] == "http.disconnect":
                self._leave()
                return
