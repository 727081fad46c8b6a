"""WebSocket (RFC 6455) as uvicorn speaks it, with bounds on what a connection may take.

uvicorn's own protocol answers any number of pings, collects any number of fragments, and never
gives up on a client that does not read. The request's head has been read and bounded by then: the
library below sees only what makes the handshake.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
import orjson
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from runtime.domain.errors import RateLimited
from runtime.infrastructure.web.doorkeeper import Doorkeeper
from runtime.infrastructure.web.errors import understand

MAX_FRAGMENTS = 1_024
"""Of one message."""
LINGER_S = 2.0
"""How long a client that is thrown out may take to read why."""
_STATUS = {1008: 429, 1009: 413}
TEXTS = "runtime.texts"
"""The extension to ASGI that this server has: a `websocket.send` with the key `texts`, any number
of messages in one write."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    keeper: ClassVar[Doorkeeper]

    def begin(self, transport: asyncio.Transport, url: bytes, head: list[Any], key: bytes) -> None:
        """Take a connection over whose request asks for a WebSocket, and has been checked."""
        self._url, self._head = url, head
        self._stalled_since: float | None = None
        self._closing_since: float | None = None
        self._window_at = 0.0
        self._frames_in_window = 0
        self._failed = False
        self.connection_made(transport)
        self.data_received(
            b"GET / HTTP/1.1\r\nHost: -\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._client = self.client[0] if self.client else ""
        self.keeper.enter(self, self._client)

    def connection_lost(self, exc: Exception | None) -> None:
        self.keeper.leave(self, self._client)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._failed:
            super().data_received(data)

    def pause_writing(self) -> None:
        self._stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()

    def look(self, now: float) -> None:
        """Called every now and then: a client that reads nothing, nor goes away, is cut off."""
        patience_s = self.keeper.bounds.send_timeout_s
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since > patience_s:
                self.transport.abort()
        elif self._stalled_since and now - self._stalled_since > patience_s:
            self.transport.abort()

    def keepalive_timeout(self) -> None:
        """Nobody is there any more who could be told."""
        self.pong_timer = None
        self.transport.abort()

    # The handshake

    def handle_connect(self, event: Request) -> None:
        self.request = event
        self.response = self.conn.accept(event)
        self.handshake_initiated = True
        url = httptools.parse_url(self._url)
        path = url.path.decode("ascii")
        self.scope = {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": self.scheme,
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + unquote(path),
            "raw_path": self.root_path.encode("ascii") + url.path,
            "query_string": url.query or b"",
            "headers": self._head,
            "subprotocols": [],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}, TEXTS: {}},
        }
        self.queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self.run_asgi())
        task.add_done_callback(self.on_task_complete)
        self.tasks.add(task)

    # Frames in

    def handle_events(self) -> None:
        handlers: dict[Opcode, Callable[[Frame], None]] = {
            Opcode.CONT: self.handle_cont,
            Opcode.TEXT: self.handle_text,
            Opcode.BINARY: self.handle_bytes,
            Opcode.PING: self._pinged,
            Opcode.PONG: self.handle_pong,
            Opcode.CLOSE: self.handle_close,
        }
        for event in self.conn.events_received():
            if isinstance(event, Request):
                self.handle_connect(event)
            elif isinstance(event, Frame):
                if self._failed or self._floods():
                    return
                handlers[event.opcode](event)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self.fail(1009, "payload_too_large", "The message has too many fragments.")
        else:
            super().handle_cont(event)

    def handle_parser_exception(self) -> None:
        close = self.conn.close_sent
        code = close.code if close else 1002
        what = {
            1007: ("invalid_frame", "A message is no valid UTF-8."),
            1009: ("payload_too_large", f"A message has at most {self.config.ws_max_size} bytes."),
        }
        self.fail(code, *what.get(code, ("invalid_frame", "This is no valid WebSocket frame.")))

    def fail(self, code: int, error: str, message: str) -> None:
        """Say why, close, and let the client read that: a reset would destroy it."""
        if self._failed or self.close_sent or self.transport.is_closing():
            return
        said = {"code": error, "error": message, "status": _STATUS.get(code, 400)}
        told = {"message_type": "error", "data": said}
        closing = Frame(Opcode.CLOSE, Close(code, message[:100]).serialize())
        self._failed = self.close_sent = True
        self.stop_keepalive()
        self.transport.write(texts([orjson.dumps(told)]) + closing.serialize(mask=False))
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": message})
        self.writable.set()
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def _floods(self) -> bool:
        now = self.loop.time()
        if now - self._window_at >= 1.0:
            self._window_at, self._frames_in_window = now, 0
        self._frames_in_window += 1
        most = self.keeper.bounds.frames_per_s
        if self._frames_in_window <= most:
            return False
        refusal = understand(RateLimited(f"At most {most} frames a second are taken."))
        self.fail(1008, refusal.code, refusal.message)
        return True

    def _pinged(self, _: Frame) -> None:
        output = b"".join(self.conn.data_to_send())
        # Who does not read gets no further pongs: they would pile up.
        if self.writable.is_set():
            self.transport.write(output)

    # Frames out

    async def send(self, message: Any) -> None:  # noqa: ANN401 - as in ASGI, and `texts`
        many: Sequence[bytes] | None = message.get("texts")
        if many is None:
            await super().send(message)
            return
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(texts(many))


def texts(messages: Sequence[bytes]) -> bytes:
    """Each as one unmasked text frame (RFC 6455 §5.2)."""
    out = bytearray()
    for message in messages:
        size = len(message)
        if size < 126:
            out += bytes((0x81, size))
        elif size < 65_536:
            out += b"\x81\x7e" + size.to_bytes(2, "big")
        else:
            out += b"\x81\x7f" + size.to_bytes(8, "big")
        out += message
    return bytes(out)
