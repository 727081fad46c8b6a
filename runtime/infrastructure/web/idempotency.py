"""`Idempotency-Key`: a POST that is sent again is answered again, not carried out again.

After the IETF's draft "The Idempotency-Key HTTP Header Field"; where it leaves a choice, see
docs/idempotency.md.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.application.services.durable.ordering import REQUEST
from runtime.application.services.idempotency import IdempotentRequests
from runtime.domain.errors import DomainError, IdempotencyKeyInUse, IdempotencyKeyReused
from runtime.domain.value_objects.idempotency import (
    MAX_KEY,
    Claim,
    IdempotencyKey,
    KeptAnswer,
)
from runtime.domain.value_objects.identity import Principal
from runtime.infrastructure.container import Container
from runtime.infrastructure.web.auth import authenticated
from runtime.infrastructure.web.errors import understand

_HEADER = b"idempotency-key"
_ENDS: Mapping[bytes, tuple[bytes, tuple[bytes, ...]]] = {
    b"text/event-stream": (
        b"\n\n",
        (
            b"data: [DONE]",
            b"event: response.completed",
            b"event: response.incomplete",
            b"event: done",
            b'data: {"type":"finish"',
            b'data: {"type":"done"',
        ),
    ),
    b"application/x-ndjson": (b"\n", (b'{"type":"done"',)),
}
"""By media type, what frames end with and how the last frame of a stream begins that came to its
proper end. No text of an answer can look like it: JSON has no line breaks within strings."""


def is_keyed(scope: Scope) -> bool:
    return scope["method"] == "POST" and any(name == _HEADER for name, _ in scope["headers"])


async def once(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call the app, unless the same request was answered before.

    A route whose work goes on when its client leaves says so: `request.state.goes_on = True`.

    Raises Unauthenticated, InvalidValue, IdempotencyKeyInUse, IdempotencyKeyReused, AnswerNotKept,
    ClientDisconnect, DatabaseUnavailable.
    """
    request = Request(scope, receive)
    container: Container = request.app.state.container
    caller = await authenticated(request)
    texts = set(request.headers.getlist("idempotency-key"))
    key = IdempotencyKey(caller.project_id, caller.user_id, texts.pop() if len(texts) == 1 else "")
    body = await request.body()
    requests = container.idempotent_requests()
    fingerprint = _fingerprint(request, caller, body)
    found = await requests.claim(key, fingerprint)
    if isinstance(found, KeptAnswer):
        await _again(found)(scope, receive, send)
        return
    most = container.settings().max_idempotent_answer_bytes
    answering = _Answering(requests, found, scope, send, most)
    # Whoever takes the key over when this process is killed finds what it has ordered.
    asked = REQUEST.set(_digest(key, fingerprint))
    try:
        await app(scope, answering.receiving(body, receive), answering.send)
    finally:
        REQUEST.reset(asked)
        await answering.ended()


class _Answering:
    """Watches an answer on its way out, and keeps it before its end is sent.

    So a client that has all of it finds it kept when it asks again. What is refused, fails or
    breaks off is not kept: the key is free before the refusal is sent.
    """

    def __init__(
        self,
        requests: IdempotentRequests,
        claim: Claim,
        scope: Scope,
        send: Send,
        max_bytes: int,
    ) -> None:
        self._requests = requests
        self._claim = claim
        self._scope = scope
        self._send = send
        self._max_bytes = max_bytes
        self._settled = False
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._ends: tuple[bytes, tuple[bytes, ...]] | None = None
        self._body = bytearray()
        self._too_large = False
        self._client_left = False

    def receiving(self, body: bytes, receive: Receive) -> Receive:
        """`receive`, with the body that was read already."""
        unread = [body]

        async def received() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            message = await receive()
            self._client_left = message["type"] == "http.disconnect"
            return message

        return received

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body" and not self._settled:
            body: bytes = message.get("body", b"")
            more: bool = message.get("more_body", False)
            self._add(body)
            if self._completes(body, more=more):
                await self._keep()
            elif not more:
                await self.ended()
        await self._send(message)

    async def ended(self) -> None:
        if self._settled:
            return
        if self._client_left and self._headers and self._scope["state"].get("goes_on"):
            # As far as it came: it names what goes on, and to begin that twice would be worse.
            await self._keep()
        else:
            self._settled = True
            await self._requests.release(self._claim)

    async def _begin(self, message: Message) -> None:
        self._status = message["status"]
        if self._status >= 400:
            await self.ended()
        # The route's own; those of each request are added further out.
        self._headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
        ]
        kind = dict(message["headers"]).get(b"content-type", b"")
        self._ends = _ENDS.get(kind.partition(b";")[0])

    def _add(self, body: bytes) -> None:
        self._too_large = self._too_large or len(self._body) + len(body) > self._max_bytes
        if self._too_large:
            self._body.clear()
        else:
            self._body += body

    def _completes(self, body: bytes, *, more: bool) -> bool:
        if self._ends is None:
            return not more
        mark, good = self._ends
        return body.removesuffix(mark).rpartition(mark)[2].startswith(good)

    async def _keep(self) -> None:
        # Before the wait: what was carried out is not set free, whatever becomes of the storing.
        self._settled = True
        answer = KeptAnswer(self._status, self._headers, bytes(self._body))
        await self._requests.keep(self._claim, None if self._too_large else answer)


def _digest(key: IdempotencyKey, fingerprint: str) -> bytes:
    parts = (key.project_id, key.owner_id, key.text, fingerprint)
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _fingerprint(request: Request, caller: Principal, body: bytes) -> str:
    """Of the request and of the caller's rights: an answer is not for who may no longer ask."""
    limits = caller.limited_to
    parts = (
        request.method,
        request.scope["path"],
        request.scope["query_string"].decode("latin-1"),
        ",".join(sorted(caller.roles)),
        "any" if limits is None else ",".join(sorted(limits)),
    )
    digest = hashlib.sha256(json.dumps(parts).encode())
    digest.update(body)
    return digest.hexdigest()


def _again(answer: KeptAnswer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = [
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers),
        (b"idempotent-replayed", b"true"),
    ]
    return response


def documented(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """A POST route's options, with what the OpenAPI document says of its keys."""
    extra = options.get("openapi_extra") or {}
    parameters = [*extra.get("parameters", ()), _PARAMETER]
    responses = dict(options.get("responses") or {})
    for refusal, description in _REFUSALS:
        status = understand(refusal).status
        if told := responses.get(status):
            responses[status] = {**told, "description": f"{told['description']} {description}"}
        else:
            responses[status] = _response(description, refusal, path, responses.get(400, {}))
    return {
        **options,
        "openapi_extra": {**extra, "parameters": parameters},
        "responses": responses,
    }


def _response(
    description: str, refusal: DomainError, path: str, like: dict[str, Any]
) -> dict[str, Any]:
    content = dict(like.get("content", {}).get("application/json", {}))
    content["example"] = understand(refusal).body(path, "req_1")
    return {"description": description, "content": {"application/json": content}}


_PARAMETER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A name for this request, at best a UUID. Sent again with the same key, it is "
    "not carried out again: the answer is the first one's, with `Idempotent-Replayed: true`.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"},
}
_REFUSALS: tuple[tuple[DomainError, str], ...] = (
    (IdempotencyKeyInUse(), "Or the request with this `Idempotency-Key` is still in flight."),
    (IdempotencyKeyReused(), "Or the `Idempotency-Key` was sent with another request."),
)
