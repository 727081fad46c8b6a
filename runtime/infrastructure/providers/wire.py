"""How a provider is talked to over HTTP, whatever it speaks: one request, read as it comes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from runtime.domain.errors import DomainError, EgressRefused, InvalidValue, UpstreamMisconfigured
from runtime.domain.services.models import ModelEvent
from runtime.domain.value_objects.chat import FinishReason
from runtime.infrastructure.egress import Credential, EgressClient
from runtime.infrastructure.providers.base import Connection, Timeouts
from runtime.infrastructure.providers.faults import Faults
from runtime.infrastructure.providers.sse import EventLines, WholeBody

_LONGEST_ERROR_BODY = 64 * 1024
_ERROR_BODY_S = 5.0
_GLANCE_S = 1.0
_AFTER_FINISH_S = 5.0
"""How long the usage and the end of the stream may take once the answer itself is complete."""
_AFTER_DONE_S = 0.2
"""How long the end of the HTTP body may take after its last event, else the connection is
dropped."""
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "text/event-stream, application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "agent-runtime",
}
_CONNECTION_FAULTS = (aiohttp.ClientError, HttpProcessingError, OSError)


class Answer(Protocol):
    """One answer in a provider's own words: events out of payloads, and what is known of its end.

    `take` and `finish` raise a DomainError for what is no answer.
    """

    done: bool
    """Nothing more comes."""
    reason: FinishReason | None
    """Once it is there, the answer is complete but for its usage."""
    pings: int
    """Payloads taken that say nothing, and so don't put off a time-out."""

    def take(self, payload: bytes) -> Iterable[ModelEvent]: ...

    def finish(self) -> Iterable[ModelEvent]: ...


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """How a provider wants its key."""

    name: str = "Authorization"
    scheme: str = "Bearer "


BEARER = KeyHeader()


class Wire:
    """Calls to one provider's host; its key goes to no other.

    Times out with UpstreamTimeout, see `Timeouts`; comments and pings in a stream are no pieces
    of the answer.
    """

    def __init__(
        self,
        egress: EgressClient,
        connection: Connection,
        base_url: str,
        *,
        key: KeyHeader = BEARER,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Raises InvalidValue for a base URL or a key that can't be sent, EgressRefused."""
        url = address(base_url)
        self._name = connection.name
        self._times = connection.timeouts
        self._endpoint = egress.endpoint(
            str(url),
            headers={**_HEADERS, **(headers or {})},
            credential=_credential(url, connection.api_key, key),
            connect_s=connection.timeouts.connect_s,
        )
        secrets = (connection.api_key, base_url, base_url.rstrip("/"), url.authority)
        self.faults = Faults(connection.name, tuple(secret for secret in secrets if secret))

    async def stream(
        self,
        url: URL,
        request: Callable[[], bytes],
        answer: Answer,
        model: str,
        *,
        stream: bool,
        headers: Mapping[str, str],
    ) -> AsyncGenerator[ModelEvent]:
        """The events of `answer`; an answer cut short raises."""
        body = request()
        limit = _Limit.of(self._times, streamed=stream)
        response: aiohttp.ClientResponse | None = None
        source: _Source | None = None
        try:
            async with asyncio.timeout_at(limit.due):
                response = await self._endpoint.post(body, headers, url)
            source = _Source(response.content, limit)
            if response.status != HTTPStatus.OK:
                raise await self._refusal(response, source, model)
            pieces = self._pieces(response, stream)
            taken = heard = 0
            while not answer.done:
                data = await source.read()
                payloads = pieces.feed(data) if data else pieces.end()
                for payload in payloads:
                    for event in answer.take(payload):
                        yield event
                if not data:
                    break
                taken += len(payloads)
                if taken - answer.pings > heard:
                    heard = taken - answer.pings
                    source.expect_within(_AFTER_FINISH_S if answer.reason else self._times.idle_s)
            if answer.done and answer.reason:
                source.expect_within(_AFTER_DONE_S)
                await source.read()
        except EgressRefused as error:
            raise self._not_called() from error
        except _CONNECTION_FAULTS as error:
            # Whatever happens to the connection after the finish reason, the answer is whole.
            if answer.reason is None:
                raise self._broken(error, limit, started=response is not None) from error
        finally:
            if source is not None:
                source.close()
            if response is not None:
                response.close()
        for event in answer.finish():
            yield event

    async def fetch(
        self,
        url: URL,
        body: bytes,
        model: str,
        *,
        headers: Mapping[str, str],
        max_bytes: int,
        not_found: DomainError,
    ) -> bytes:
        """A whole answer; `not_found` is raised for a 404."""
        limit = _Limit.of(self._times, streamed=False)
        response: aiohttp.ClientResponse | None = None
        source: _Source | None = None
        try:
            async with asyncio.timeout_at(limit.due):
                response = await self._endpoint.post(body, headers, url)
            source = _Source(response.content, limit)
            if response.status == HTTPStatus.NOT_FOUND:
                raise not_found
            if response.status != HTTPStatus.OK:
                raise await self._refusal(response, source, model)
            whole = bytearray()
            while data := await source.read():
                whole += data
                if len(whole) > max_bytes:
                    raise self.faults.failed("sent more in one piece than the runtime takes")
        except EgressRefused as error:
            raise self._not_called() from error
        except _CONNECTION_FAULTS as error:
            raise self._broken(error, limit, started=response is not None) from error
        finally:
            if source is not None:
                source.close()
            if response is not None:
                response.close()
        return bytes(whole)

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    def _not_called(self) -> UpstreamMisconfigured:
        return UpstreamMisconfigured(
            f"The model provider '{self._name}' is at an address that the runtime does not "
            "call; an operator can allow its host with RUNTIME_ALLOWED_EGRESS."
        )

    def _pieces(self, response: aiohttp.ClientResponse, stream: bool) -> EventLines | WholeBody:
        # Some endpoints can't stream a particular model and send the whole answer all the same.
        if stream and response.content_type != "application/json":
            return EventLines(self.faults)
        return WholeBody(self.faults)

    async def _refusal(
        self, response: aiohttp.ClientResponse, source: "_Source", model: str
    ) -> DomainError:
        source.expect_within(_ERROR_BODY_S)
        body = b""
        with suppress(*_CONNECTION_FAULTS):
            while len(body) <= _LONGEST_ERROR_BODY and (data := await source.read()):
                body += data
        return self.faults.of_status(response.status, model, _json(body), response.headers)

    def _broken(self, error: Exception, limit: "_Limit", *, started: bool) -> DomainError:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return self.faults.timed_out("could not be reached in time")
        if isinstance(error, TimeoutError) and limit.is_past():
            return self.faults.timed_out(f"took longer than {limit.whole_s:g} s")
        if isinstance(error, TimeoutError):
            return self.faults.timed_out("fell silent" if started else "did not answer in time")
        return self.faults.failed("cut the connection" if started else "could not be reached")


@dataclass(frozen=True, slots=True)
class _Limit:
    """How long a call may take, as times of the loop's clock."""

    due: float
    """By then the first piece is there."""
    end: float
    """By then everything is."""
    whole_s: float

    @classmethod
    def of(cls, times: Timeouts, *, streamed: bool) -> "_Limit":
        now = asyncio.get_running_loop().time()
        whole_s = times.total_s if streamed else times.answer_s
        first_s = min(times.first_token_s, whole_s) if streamed else whole_s
        return cls(now + first_s, now + whole_s, whole_s)

    def is_past(self) -> bool:
        return asyncio.get_running_loop().time() >= self.end


class _Source:
    """A response's body under one timer, which is not touched when data comes.

    Of the time between two pieces only what is spent waiting for the provider counts, not what
    the reader does in between; the end of the whole call comes for both.
    """

    __slots__ = ("_body", "_due", "_end", "_loop", "_timer", "_waiting")

    def __init__(self, body: aiohttp.StreamReader, limit: _Limit) -> None:
        self._body = body
        self._due = limit.due
        self._end = limit.end
        self._waiting = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_at(limit.due, self._look)

    async def read(self) -> bytes:
        """What has come; empty at the end. Raises TimeoutError."""
        self._waiting = True
        try:
            return await self._body.readany()
        finally:
            self._waiting = False

    def expect_within(self, seconds: float) -> None:
        due = min(self._loop.time() + seconds, self._end)
        if due < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(due, self._look)
        self._due = due

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self._end or (self._waiting and now >= self._due):
            self._body.set_exception(TimeoutError())
        else:
            at = min(max(self._due, now + _GLANCE_S), self._end)
            self._timer = self._loop.call_at(at, self._look)


def address(base_url: str, path: str = "") -> URL:
    """Raises InvalidValue for what is no absolute HTTP address."""
    try:
        url = URL(f"{base_url.rstrip('/')}{path and '/'}{path}")
        if url.scheme in ("http", "https") and url.host:
            return url
    except ValueError:
        pass
    raise InvalidValue(
        "A provider's base URL must be absolute, with http: or https:.", param="base_url"
    )


def _credential(url: URL, api_key: str | None, header: KeyHeader) -> Credential | None:
    if not api_key:
        return None
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise InvalidValue(
            "A provider's key must be printable ASCII without blanks.", param="api_key"
        )
    host = f"{url.host_subcomponent}:{url.port}"
    return Credential(host, header.name, f"{header.scheme}{api_key}")


def _json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
