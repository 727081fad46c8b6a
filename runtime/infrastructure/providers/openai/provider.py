import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from http import HTTPStatus

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from runtime.domain.errors import (
    DomainError,
    EgressRefused,
    EmbeddingModelNotFound,
    UpstreamMisconfigured,
)
from runtime.domain.services.models import EmbeddingCall, ModelCall, ModelEvent
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.infrastructure.egress import Credential, EgressClient
from runtime.infrastructure.providers.base import OPENAI_EMBEDDING_MODELS
from runtime.infrastructure.providers.formats import EVERY_FORMAT
from runtime.infrastructure.providers.openai.answers import Answer, EventLines, WholeBody
from runtime.infrastructure.providers.openai.embeddings import (
    LARGEST_BODY,
    embedding_request,
    embeddings_of,
)
from runtime.infrastructure.providers.openai.faults import Faults
from runtime.infrastructure.providers.openai.requests import request_body

_LONGEST_ERROR_BODY = 64 * 1024
_ERROR_BODY_S = 5.0
_GLANCE_S = 1.0
_AFTER_FINISH_S = 5.0
"""How long the usage and the end of the stream may take once the answer itself is complete."""
_AFTER_DONE_S = 0.2
"""How long the end of the HTTP body may take after `[DONE]`, else the connection is dropped."""
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "text/event-stream, application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "agent-runtime",
}
_CONNECTION_FAULTS = (aiohttp.ClientError, HttpProcessingError, OSError)


class OpenAIProvider:
    """One endpoint; the key goes to no other host.

    Times out with UpstreamTimeout: `connect_s` to be connected, `first_token_s` from the call to
    the first piece of the answer, `idle_s` of silence between two pieces; an answer that is not
    streamed may take `answer_s` as a whole. Comments in the stream do not count as pieces.
    """

    def __init__(
        self,
        egress: EgressClient,
        base_url: str,
        api_key: str | None = None,
        *,
        name: str = "openai",
        default_model: str = "gpt-4.1-mini",
        formats: Collection[str] = EVERY_FORMAT,
        default_embedding_model: str = "text-embedding-3-small",
        connect_s: float = 10,
        first_token_s: float = 120,
        idle_s: float = 60,
        answer_s: float = 600,
    ) -> None:
        """Raises ValueError for a base URL or a key that can't be sent, EgressRefused."""
        self.name = name
        self.default_model = default_model
        self.formats = formats
        self.default_embedding_model = default_embedding_model
        self.embedding_models = frozenset({default_embedding_model, *OPENAI_EMBEDDING_MODELS})
        url = _address(base_url, "chat/completions")
        self._endpoint, self._embeddings = (
            egress.endpoint(
                str(each),
                headers=_HEADERS,
                credential=_credential(each, api_key),
                connect_s=connect_s,
            )
            for each in (url, _address(base_url, "embeddings"))
        )
        self._first_token_s = first_token_s
        self._idle_s = idle_s
        self._answer_s = answer_s
        secrets = (api_key, base_url, base_url.rstrip("/"), url.authority)
        self._faults = Faults(name, tuple(secret for secret in secrets if secret))

    async def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        body = request_body(call, model)
        answer = Answer(self._faults, model)
        due = asyncio.get_running_loop().time()
        due += self._first_token_s if call.stream else self._answer_s
        response: aiohttp.ClientResponse | None = None
        source: _Source | None = None
        try:
            async with asyncio.timeout_at(due):
                response = await self._endpoint.post(body, call.headers)
            source = _Source(response.content, due)
            if response.status != HTTPStatus.OK:
                raise await self._refusal(response, source, model)
            pieces = self._pieces(call, response)
            while not answer.done:
                data = await source.read()
                payloads = pieces.feed(data) if data else pieces.end()
                for payload in payloads:
                    for event in answer.take(payload):
                        yield event
                if not data:
                    break
                if payloads:
                    source.expect_within(_AFTER_FINISH_S if answer.reason else self._idle_s)
            if answer.done and answer.reason:
                source.expect_within(_AFTER_DONE_S)
                await source.read()
        except EgressRefused as error:
            raise self._not_called() from error
        except _CONNECTION_FAULTS as error:
            # Whatever happens to the connection after the finish reason, the answer is whole.
            if answer.reason is None:
                raise self._broken(error, started=response is not None) from error
        finally:
            if source is not None:
                source.close()
            if response is not None:
                response.close()
        for event in answer.finish():
            yield event

    async def embed(self, call: EmbeddingCall, model: str) -> Embeddings:
        body = embedding_request(call, model)
        due = asyncio.get_running_loop().time() + self._answer_s
        response: aiohttp.ClientResponse | None = None
        source: _Source | None = None
        try:
            async with asyncio.timeout_at(due):
                response = await self._embeddings.post(body, call.headers)
            source = _Source(response.content, due)
            if response.status == HTTPStatus.NOT_FOUND:
                raise EmbeddingModelNotFound(f"{self.name}/{model}")
            if response.status != HTTPStatus.OK:
                raise await self._refusal(response, source, model)
            whole = bytearray()
            while data := await source.read():
                whole += data
                if len(whole) > LARGEST_BODY:
                    raise self._faults.failed("sent more in one piece than the runtime takes")
        except EgressRefused as error:
            raise self._not_called() from error
        except _CONNECTION_FAULTS as error:
            raise self._broken(error, started=response is not None) from error
        finally:
            if source is not None:
                source.close()
            if response is not None:
                response.close()
        return embeddings_of(bytes(whole), call, model, self._faults)

    async def aclose(self) -> None:
        await self._endpoint.aclose()
        await self._embeddings.aclose()

    def _not_called(self) -> UpstreamMisconfigured:
        return UpstreamMisconfigured(
            f"The model provider '{self.name}' is at an address that the runtime does not "
            "call; an operator can allow its host with RUNTIME_ALLOWED_EGRESS."
        )

    def _pieces(self, call: ModelCall, response: aiohttp.ClientResponse) -> EventLines | WholeBody:
        # Some endpoints can't stream a particular model and send the whole answer all the same.
        if call.stream and response.content_type != "application/json":
            return EventLines(self._faults)
        return WholeBody(self._faults)

    async def _refusal(
        self, response: aiohttp.ClientResponse, source: "_Source", model: str
    ) -> DomainError:
        source.expect_within(_ERROR_BODY_S)
        body = b""
        with suppress(*_CONNECTION_FAULTS):
            while len(body) <= _LONGEST_ERROR_BODY and (data := await source.read()):
                body += data
        return self._faults.of_status(response.status, model, _json(body), response.headers)

    def _broken(self, error: Exception, *, started: bool) -> DomainError:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return self._faults.timed_out("could not be reached in time")
        if isinstance(error, TimeoutError):
            return self._faults.timed_out("fell silent" if started else "did not answer in time")
        return self._faults.failed("cut the connection" if started else "could not be reached")


class _Source:
    """A response's body under one timer, which is not touched when data comes.

    Only the time spent waiting for the provider counts, not what the reader does in between.
    """

    __slots__ = ("_body", "_due", "_loop", "_timer", "_waiting")

    def __init__(self, body: aiohttp.StreamReader, due: float) -> None:
        self._body = body
        self._due = due
        self._waiting = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_at(due, self._look)

    async def read(self) -> bytes:
        """What has come; empty at the end. Raises TimeoutError."""
        self._waiting = True
        try:
            return await self._body.readany()
        finally:
            self._waiting = False

    def expect_within(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        if due < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(due, self._look)
        self._due = due

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._waiting and now >= self._due:
            self._body.set_exception(TimeoutError())
        else:
            self._timer = self._loop.call_at(max(self._due, now + _GLANCE_S), self._look)


def _address(base_url: str, path: str) -> URL:
    url = URL(f"{base_url.rstrip('/')}/{path}")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("a provider's base URL must be absolute, with http: or https:")
    return url


def _credential(url: URL, api_key: str | None) -> Credential | None:
    if not api_key:
        return None
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("a provider's key must be printable ASCII without blanks")
    return Credential(f"{url.host_subcomponent}:{url.port}", "Authorization", f"Bearer {api_key}")


def _json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
