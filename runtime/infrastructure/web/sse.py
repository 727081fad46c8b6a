"""Streams as ASGI responses: one task beside the stream's own, none per event.

sse-starlette starts four for each stream and one that polls for as long as the process lives.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HEARTBEAT_S = 15.0
HEARTBEAT = b": waiting\n\n"
HEADERS_ALONE = "runtime.headers_alone"
"""In the scope of a HEAD, which routes take for a GET."""
_LINE_ENDS = [(mark.encode(), b"\\u%04x" % ord(mark)) for mark in "\x85\u2028\u2029"]


class BrokenOff(Exception):
    """Raised by a stream that failed and has no way to say so: the connection is closed before the
    answer's end, so that nobody takes it for a whole one."""


class Streamed(Response):
    """`frames` may come any number in one piece.

    `leave` is called when the client is gone; it has to make the frames end soon. They are not
    cancelled: that would leave the run's own task behind.
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        leave: Callable[[], None],
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        heartbeat: bytes = b"",
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        """`heartbeat` is sent on every long silence; empty where the format has nothing that its
        readers skip."""
        # Not by the base class, which would announce an empty body.
        self.status_code = 200
        self.background = None
        self.media_type = media_type or self.media_type
        self.init_headers(
            {"Cache-Control": "no-cache, no-store", "X-Accel-Buffering": "no", **(headers or {})}
        )
        self._frames = frames
        self._leave = leave
        self._heartbeat = heartbeat
        self._heartbeat_s = heartbeat_s
        self._busy = False
        self._sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if HEADERS_ALONE in scope:
            await self._headers_alone(send)
            return
        clock = asyncio.get_running_loop().time
        watching = asyncio.create_task(self._watch(receive, send))
        try:
            async with aclosing(self._frames):
                start = {"type": "http.response.start", "status": self.status_code}
                await send({**start, "headers": self.raw_headers})
                async for frames in self._frames:
                    self._busy = True
                    body = self._written(frames)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                    self._busy, self._sent_at = False, clock()
        except BrokenOff:
            return
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _headers_alone(self, send: Send) -> None:
        """Without waiting for the end of what nobody is told."""
        self._leave()
        await self._frames.aclose()
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _written(self, frames: bytes) -> bytes:
        return frames

    async def _watch(self, receive: Receive, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        self._sent_at = clock()
        while True:
            silent_s = clock() - self._sent_at
            wait_s = max(self._heartbeat_s - silent_s, 0.01) if self._heartbeat else None
            try:
                async with asyncio.timeout(wait_s):
                    message = await receive()
            except TimeoutError:
                if not self._busy and clock() - self._sent_at >= self._heartbeat_s:
                    beat = {"type": "http.response.body", "body": self._heartbeat}
                    await send({**beat, "more_body": True})
                    self._sent_at = clock()
                continue
            if message["type"] == "http.disconnect":
                self._leave()
                return


class EventStream(Streamed):
    """Complete SSE frames, with JSON in them. A comment is sent on every long silence, so that no
    proxy takes the stream for dead."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        leave: Callable[[], None],
        headers: Mapping[str, str] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        super().__init__(frames, leave, headers, heartbeat=HEARTBEAT, heartbeat_s=heartbeat_s)

    def _written(self, frames: bytes) -> bytes:
        return in_lines(frames)


def in_lines(written: bytes) -> bytes:
    """With those characters of JSON escaped that many a reader takes for the end of a line."""
    if not written.isascii():
        for raw, escaped in _LINE_ENDS:
            written = written.replace(raw, escaped)
    return written
