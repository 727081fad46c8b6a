"""HTTP/1.1 as uvicorn speaks it, with bounds on what a connection may take: bytes, time, a place.

uvicorn's own protocol reads headers of any size, waits for them for ever, and never gives up on a
client that does not read its answer.
"""

import asyncio
import base64
from collections.abc import Mapping
from enum import Enum, auto
from http import HTTPStatus
from typing import ClassVar

import httptools
import structlog
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.domain.errors import Draining
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.infrastructure.web import errors
from runtime.infrastructure.web.doorkeeper import Doorkeeper
from runtime.infrastructure.web.security import SECURITY_HEADERS

log = structlog.get_logger("runtime.access")

MAX_TARGET_BYTES = 8_192
MAX_HEADERS = 100
MIN_BODY_RATE = 20_000
"""Bytes a second that a body has to come with, once its first time is used up."""
LINGER_S = 2.0
"""How long a client may go on sending after it was refused."""
PROBES = (b"/healthz", b"/readyz")


class _Phase(Enum):
    HEAD = auto()
    BODY = auto()
    READ = auto()
    """The request is complete; its answer may be on the way, or the next one awaited."""
    REFUSED = auto()
    """Nothing more is heard from this connection; it closes as soon as the client agrees."""


class _Refused(Exception):
    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.answer = HTTPException(status, message, headers)


class BoundedProtocol(HttpToolsProtocol):
    keeper: ClassVar[Doorkeeper]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._phase = _Phase.HEAD
        self._since = self.loop.time()
        self._received = 0
        self._stalled_since: float | None = None
        self._closing_since: float | None = None
        self._client = self.client[0] if self.client else ""
        self._turned_away = self.keeper.enter(self, self._client)
        if self._turned_away and self.keeper.overrun:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.keeper.leave(self, self._client)
        super().connection_lost(exc)

    def _upgrade(self, early: bytes) -> None:
        """The head is read and checked; from here on the connection speaks another protocol."""
        if early:
            self._refuse(HTTPException(400, "A WebSocket client waits for the handshake's answer."))
            return
        self.connections.discard(self)
        self.keeper.leave(self, self._client)
        successor = self.keeper.websocket(self.config, self.server_state, self.app_state, self.loop)
        self.transport.set_protocol(successor)
        successor.begin(self.transport, self.url, self.headers, self._websocket_key())

    def data_received(self, data: bytes) -> None:
        if self._phase is _Phase.READ:
            if not self.cycle.response_complete:
                self._stop_listening()
            else:
                self._expect_head()
        self._received += len(data)
        if self._phase is _Phase.REFUSED:
            if self._received > self.keeper.bounds.raw_body_bytes:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as end:
            if self._should_upgrade():
                self._upgrade(early=data[end.args[0] :])
        except httptools.HttpParserError as error:
            self._broken(error, data)
        else:
            self._check_received()

    def eof_received(self) -> None:
        """A client that sends no more is taken to be gone, as by other servers: None closes."""

    def pause_writing(self) -> None:
        self._stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()

    def shutdown(self) -> None:
        """The server's last call: what is not answered by now never will be."""
        if self._phase is _Phase.REFUSED:
            self.transport.abort()
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        elif not self.cycle.response_started:
            self._refuse(Draining())
        else:
            self.transport.abort()

    def look(self, now: float) -> None:
        """Called every now and then: has the client used up its time?"""
        bounds, waited_s = self.keeper.bounds, now - self._since
        if self._is_stuck(now):
            self.transport.abort()
        elif self._phase is _Phase.HEAD and waited_s > bounds.header_timeout_s:
            if self._received:
                self._refuse(HTTPException(408, "The headers took too long to come."))
            else:
                self.transport.close()
        elif self._phase is _Phase.BODY and not self.flow.read_paused:
            allowed_s = bounds.body_timeout_s + self._received / MIN_BODY_RATE
            if waited_s > allowed_s:
                self._refuse(HTTPException(408, "The body took too long to come."))

    def _is_stuck(self, now: float) -> bool:
        """Whether the client neither reads what it is sent nor goes away."""
        patience_s = self.keeper.bounds.send_timeout_s
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            return now - self._closing_since > patience_s
        if self._stalled_since and now - self._stalled_since > patience_s:
            return True
        return self._phase is _Phase.REFUSED and self._answered and now - self._since > LINGER_S

    # The parser's callbacks

    def on_message_begin(self) -> None:
        if self._phase is _Phase.READ:
            if not self.cycle.response_complete:
                raise _Refused(400, "One request at a time: wait for its answer.")
            self._expect_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not _Phase.HEAD:
            return  # a trailer: nobody asks for one
        if len(self.headers) >= MAX_HEADERS:
            raise _Refused(431, f"There are more than {MAX_HEADERS} headers.")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        has_body = self._check_head()
        self._phase = _Phase.BODY
        super().on_headers_complete()
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        if has_body:
            self.cycle.transport = _Lingering(self)  # type: ignore[assignment]
        if self.keeper.draining or self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._phase = _Phase.READ
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._phase is _Phase.REFUSED:  # closing already, at the client's pace
            self._unset_keepalive_if_required()

    def finish(self) -> None:
        """Close, but not while the client sends: the reset would destroy the answer."""
        if self._phase is _Phase.BODY or self._phase is _Phase.REFUSED:
            self._linger()
        else:
            self.transport.close()

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or self.cycle.disconnected

    def _expect_head(self) -> None:
        self._phase = _Phase.HEAD
        self._since = self.loop.time()
        self._received = 0

    def _check_head(self) -> bool:
        """Whether a body follows. Raises _Refused."""
        method, size, hosts, has_body = self.parser.get_method(), len(self.url), 0, False
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                has_body = value != b"0"
            elif name == b"transfer-encoding":
                has_body = True
                if value.lower() != b"chunked":
                    raise _Refused(400, "The only transfer encoding taken is 'chunked'.")
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _Refused(505, "HTTP/1.1 is spoken here.")
        if len(self.url) > MAX_TARGET_BYTES:
            raise _Refused(414, f"The path and query are longer than {MAX_TARGET_BYTES} bytes.")
        if size > self.keeper.bounds.header_bytes:
            raise self._too_much_head()
        if hosts != 1 and (hosts or version == "1.1"):
            raise _Refused(400, "Exactly one Host header is needed.")
        if method == b"CONNECT":
            raise _Refused(405, "This is not a proxy.")
        if self._should_upgrade():
            self._check_upgrade(method, version, has_body=has_body)
        if self._turned_away and self.url.partition(b"?")[0] not in PROBES:
            raise _Refused(0, "")
        return has_body

    def _check_upgrade(self, method: bytes, version: str, *, has_body: bool) -> None:
        """RFC 6455 §4.2.1. Raises _Refused."""
        if method != b"GET" or version != "1.1" or has_body:
            raise _Refused(400, "A WebSocket begins with a GET of HTTP/1.1 without a body.")
        if _values(self.headers, b"sec-websocket-version") != [b"13"]:
            spoken = {"Sec-WebSocket-Version": "13"}
            raise _Refused(426, "Version 13 of the WebSocket protocol is spoken here.", spoken)
        try:
            key = base64.b64decode(self._websocket_key(), validate=True)
            httptools.parse_url(self.url).path.decode("ascii")
        except (ValueError, AttributeError, httptools.HttpParserInvalidURLError):
            key = b""
        if len(key) != 16:
            raise _Refused(400, "This is no valid WebSocket handshake.")

    def _websocket_key(self) -> bytes:
        keys = _values(self.headers, b"sec-websocket-key")
        return keys[0] if len(keys) == 1 else b""

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def _check_received(self) -> None:
        """What the parser has swallowed without telling: half a header, trailers, extensions."""
        bounds = self.keeper.bounds
        if self._phase is _Phase.HEAD and self._received > bounds.header_bytes:
            self._refuse(self._too_much_head().answer)
        elif self._phase is _Phase.BODY and self._received > bounds.raw_body_bytes:
            self._refuse(HTTPException(413, f"The body is larger than {bounds.body_bytes} bytes."))

    def _too_much_head(self) -> _Refused:
        # Without a header yet, it is the request line that has no end.
        if not self.headers and self._phase is _Phase.HEAD:
            return _Refused(414, f"The path and query are longer than {MAX_TARGET_BYTES} bytes.")
        return _Refused(
            431, f"The headers are larger than {self.keeper.bounds.header_bytes} bytes."
        )

    def _broken(self, error: httptools.HttpParserError, data: bytes) -> None:
        cause = error.__context__
        if self._phase is _Phase.READ:
            self._stop_listening()
        elif isinstance(cause, _Refused):
            self._refuse(self._turned_away or cause.answer)
        elif isinstance(error, httptools.HttpParserInvalidMethodError) and _names_a_method(data):
            self._refuse(HTTPException(405, "There is no such method."))
        else:
            self._refuse(HTTPException(400, "This is not a valid HTTP request."))

    def _stop_listening(self) -> None:
        """For a second request before the first one's answer: that one is the last."""
        self._phase = _Phase.REFUSED
        self._received = 0
        self.cycle.keep_alive = False
        self.cycle.transport = _Lingering(self)  # type: ignore[assignment]

    def _refuse(self, exc: Exception) -> None:
        """Answer from here, unless an answer was begun, and close."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if cycle is None or not cycle.response_complete or self._phase is _Phase.HEAD:
            self._write(exc)
        self._linger()

    def _write(self, exc: Exception) -> None:
        path = getattr(self, "url", b"").decode("latin-1")
        request_id = f"req_{uuid7_hex()}"
        answer = errors.response(exc, path, request_id)
        headers = [
            *self.server_state.default_headers,
            *answer.raw_headers,
            *SECURITY_HEADERS,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = [name + b": " + value for name, value in headers]
        phrase = HTTPStatus(answer.status_code).phrase
        head = f"HTTP/1.1 {answer.status_code} {phrase}".encode()
        self.transport.write(b"\r\n".join([head, *lines, b"", bytes(answer.body)]))
        log.info("refused", status=answer.status_code, path=path[:200], client=self._client)

    def _linger(self) -> None:
        if self.transport.is_closing():
            return
        self._phase = _Phase.REFUSED
        self._since = self.loop.time()
        self._received = 0
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()


class _Lingering:
    """The transport as a request with a body sees it: to close is to let the client finish."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, protocol: BoundedProtocol) -> None:
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.finish


def _values(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value.strip() for name, value in headers if name == wanted]


def _names_a_method(data: bytes) -> bool:
    word = data.split(b" ", 1)[0]
    return word.isalpha() and len(word) <= 32
