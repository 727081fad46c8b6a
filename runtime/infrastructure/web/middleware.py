"""What every request passes: an id, a look at where it comes from, a bound on its size, a log line.

Plain ASGI: nothing here buffers a stream or adds a task to it.
"""

import logging
import re
from collections.abc import Iterator
from time import perf_counter
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.application.services.quotas import STANDING, duration
from runtime.domain.errors import Forbidden
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.infrastructure.web import errors
from runtime.infrastructure.web.observing import RequestMonitor
from runtime.infrastructure.web.security import SECURITY_HEADERS, UNLESS_SET
from runtime.infrastructure.web.sse import HEADERS_ALONE

logger = logging.getLogger(__name__)
log = structlog.get_logger("runtime.access")

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
OPENAI_VERSION = (b"openai-version", b"2020-10-01")
"""As OpenAI's own answers have it: its only version so far."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class RequestContext:
    """Gives the request its id and its log line, the response its headers."""

    def __init__(self, app: ASGIApp, monitor: RequestMonitor) -> None:
        self._app = app
        self._monitor = monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        since = perf_counter()
        headers_in = Headers(scope=scope)
        request_id = _request_id(headers_in)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _headers(message, request_id, since)}
                if errors.is_openai(scope["path"]):
                    message["headers"].append(OPENAI_VERSION)
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        self._monitor.began(headers_in.get("traceparent"))
        try:
            # A HEAD is answered as a GET; the server leaves its body out.
            head = scope["method"] == "HEAD"
            asked_for = {**scope, "method": "GET", HEADERS_ALONE: True} if head else scope
            await self._app(asked_for, receive, send_with_headers)
        # Here, not in Starlette's outermost layer: its answer would have none of our headers.
        except Exception as error:
            if status:
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await errors.response(error, scope["path"])(scope, receive, send_with_headers)
        finally:
            duration_s = perf_counter() - since
            # An answer that never began is the server's 500, made outside of here.
            self._monitor.ended(scope["method"], _route(scope), status or 500, duration_s)
            run_id = scope["state"].get("run_id")
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round(duration_s * 1_000, 1),
                **({"run_id": run_id} if run_id else {}),
            )

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A line when it is open or refused, and one when it is over."""
        since = perf_counter()
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            kind = message["type"]
            if status:
                await send(message)
                return
            if kind == "websocket.close":  # no such route
                status = 404
                refusal = errors.response(HTTPException(404), scope["path"])
                await refusal(scope, receive, send_with_headers)
                return
            if kind == "websocket.accept":
                status = 101
                named = (b"x-request-id", request_id.encode())
                message = {**message, "headers": [*message.get("headers", ()), named]}
            elif kind == "websocket.http.response.start":
                status = message["status"]
                message = {**message, "headers": _headers(message, request_id, since)}
            log.info("websocket", path=scope["path"], status=status)
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            duration_s = round(perf_counter() - since, 1)
            if status == 101:
                log.info("websocket closed", path=scope["path"], duration_s=duration_s)


class BrowserGuard:
    """Keeps web pages out: their origin is not ours, or the name they reached us by is not.

    `hosts` are the names in the Host header that are ours; None takes any, which is only safe
    where every caller needs a credential.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            problem = self._problem(Headers(scope=scope))
            if problem:
                refusal = errors.response(Forbidden(problem), scope["path"])
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _problem(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if self._hosts is not None and _host_name(host) not in self._hosts:
            return (
                "This Host is not one of the runtime's names. Name it in RUNTIME_ALLOWED_HOSTS "
                "or use 127.0.0.1."
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "Requests from other web origins are refused."
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return "Requests from other web sites are refused."
        return None


class BodyLimit:
    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced) > self._max_bytes:
            await errors.response(self._too_large(), scope["path"])(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> HTTPException:
        message = f"The body is larger than {self._max_bytes} bytes."
        return HTTPException(413, message, headers={"Connection": "close"})


def _request_id(headers: Headers) -> str:
    asked = headers.get("x-request-id", "")
    return asked if _SANE_ID.fullmatch(asked) else f"req_{uuid7_hex()}"


def _headers(message: Message, request_id: str, since: float) -> list[tuple[bytes, bytes]]:
    given: list[tuple[bytes, bytes]] = message["headers"]
    names = {name for name, _ in given}
    took_ms = round((perf_counter() - since) * 1_000)
    return [
        *given,
        *SECURITY_HEADERS,
        *(header for header in UNLESS_SET if header[0] not in names),
        *_standing(),
        (b"x-request-id", request_id.encode()),
        (b"openai-processing-ms", b"%d" % took_ms),
    ]


def _standing() -> Iterator[tuple[bytes, bytes]]:
    """As OpenAI tells it (platform.openai.com/docs/guides/rate-limits, "in headers")."""
    standing = STANDING.get()
    if standing is None:
        return
    for kind, gauge in ((b"requests", standing.requests), (b"tokens", standing.tokens)):
        if gauge:
            yield b"x-ratelimit-limit-" + kind, b"%d" % gauge.limit
            yield b"x-ratelimit-remaining-" + kind, b"%d" % gauge.remaining
            yield b"x-ratelimit-reset-" + kind, duration(gauge.reset_s).encode()


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unmatched")


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
