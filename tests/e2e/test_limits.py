"""What a connection may take: bytes, time and places, and what it is told beyond that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from dependency_injector import providers

from tests.e2e.server import Served, serving
from tests.e2e.wire import Wire, chat, connected, request

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = b"Host: 127.0.0.1\r\n"
CHUNKED = ("Content-Type: application/json", "Transfer-Encoding: chunked")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("limits")
    async with serving(
        folder,
        max_body_bytes=20_000,
        header_timeout_s=0.4,
        body_timeout_s=0.4,
        send_timeout_s=0.4,
        keep_alive_s=1,
        max_connections=40,
        max_connections_per_client=30,
        max_concurrent_runs_per_user=4,
        demo_token_delay_ms=20,
    ) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def wire(runtime: Served) -> AsyncIterator[Wire]:
    async with connected(runtime.url) as opened:
        yield opened


MALFORMED = {
    "two lengths": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "signed length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\nabc",
    "other coding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "chunk size": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "name with a blank": b"GET / HTTP/1.1\r\n" + HOST + b"X A: b\r\n\r\n",
    "blank before colon": b"GET / HTTP/1.1\r\n" + HOST + b"X-A : b\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\x00b\r\n\r\n",
    "CR in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\rb\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\r\n b\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "path of bytes": b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "WebSocket without a key": request(
        "GET",
        "/v1/chat",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_what_is_not_plain_http_is_400_in_the_door_s_shape(wire: Wire, kind: str) -> None:
    await wire.send(MALFORMED[kind])
    answer = await wire.answer()

    assert answer.status == 400
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    wire.writer.write_eof()
    assert await wire.closed() == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("BREW"), 405),
        (request("CONNECT", "evil.example:443"), 405),
        (request().replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
        (request("GET", "/v1/models?q=" + "x" * 9_000), 414),
        (b"GET /" + b"x" * 70_000, 414),
        (request("GET", "/healthz", *[f"X-{number}: x" for number in range(101)]), 431),
        (request("GET", "/healthz", "X-Large: " + "x" * 66_000), 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X-Endless: " + b"x" * 70_000, 431),
    ],
)
async def test_heads_beyond_a_bound_have_their_own_status(
    wire: Wire, sent: bytes, status: int
) -> None:
    await wire.send(sent)
    answer = await wire.answer()

    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert answer.json["error"]["message"]


async def test_a_platform_path_gets_the_platform_s_shape(wire: Wire) -> None:
    await wire.send(request("GET", "/v1/agents?q=" + "x" * 9_000))
    answer = await wire.answer()

    assert (answer.status, answer.json["error"]) == (414, "URI_TOO_LONG")


async def test_headers_within_the_bound_are_taken(wire: Wire) -> None:
    await wire.send(request("GET", "/healthz", "X-Large: " + "x" * 60_000))
    assert (await wire.answer()).status == 200


async def test_half_a_head_is_408_after_its_time(wire: Wire) -> None:
    await wire.send(b"GET /healthz HTTP/1.1\r\nHos")
    answer = await wire.answer()

    assert (answer.status, answer.json["error"]["code"]) == (408, "request_timeout")


async def test_a_head_that_comes_byte_by_byte_gains_no_time(wire: Wire) -> None:
    async def trickle() -> None:
        while True:
            await wire.send(b"x")
            await asyncio.sleep(0.02)

    await wire.send(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
    trickling = asyncio.create_task(trickle())
    async with asyncio.timeout(5):
        assert (await wire.answer()).status == 408
    trickling.cancel()


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_who_sends_no_request_is_closed(wire: Wire, sent: bytes) -> None:
    await wire.send(sent)
    async with asyncio.timeout(5):
        await wire.closed()


async def test_half_a_body_is_408_after_its_time(runtime: Served, wire: Wire) -> None:
    await wire.send(chat("Hello")[:-5])
    answer = await wire.answer()

    assert answer.status == 408
    assert (await runtime.get("/v1/health"))["metrics"]["running"] == 0


async def test_an_idle_connection_is_closed(wire: Wire) -> None:
    await wire.send(request())
    assert (await wire.answer()).status == 200
    async with asyncio.timeout(5):
        assert await wire.closed() == b""


@pytest.mark.parametrize("head", [CHUNKED, (*CHUNKED[:1], "Content-Length: 900000000")])
async def test_an_endless_upload_is_told_so_and_then_cut(wire: Wire, head: tuple[str, ...]) -> None:
    piece = b"x" * 4_096
    framed = b"1000\r\n" + piece + b"\r\n" if head == CHUNKED else piece
    await wire.send(request("POST", "/v1/chat/completions", *head))
    sent = 0

    async def upload() -> None:
        nonlocal sent
        while True:
            await wire.send(framed)
            sent += len(framed)
            await asyncio.sleep(0)

    uploading = asyncio.create_task(upload())
    answer = await wire.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(10):
            await uploading
    assert sent < 20_000_000


async def test_a_client_that_sends_all_before_it_reads_gets_its_refusal_too(wire: Wire) -> None:
    await wire.send(request("POST", "/v1/chat/completions", *CHUNKED[:1], "Content-Length: 80000"))
    for _ in range(80):
        await wire.send(b"x" * 1_000)
        await asyncio.sleep(0.005)

    assert (await wire.answer()).status == 413


async def test_an_upload_that_nobody_wants_does_not_hide_its_refusal(wire: Wire) -> None:
    head = request("POST", "/v1/nowhere", "Content-Length: 15000")
    await wire.send(head, b"x" * 10)
    assert (await wire.answer()).status == 404
    await wire.send(b"x" * 14_990, request())

    assert (await wire.answer()).status == 200


async def test_a_trailer_is_no_header(wire: Wire) -> None:
    body = chat("Hello").split(b"\r\n\r\n", 1)[1]
    trailer = b"%x\r\n%b\r\n0\r\nX-Request-Id: smuggled\r\n\r\n" % (len(body), body)
    await wire.send(request("POST", "/v1/chat/completions", *CHUNKED), trailer)
    answer = await wire.answer()

    assert answer.status == 200
    assert answer.headers["x-request-id"] != "smuggled"


@pytest.mark.parametrize("second", [request(), b"nonsense \r\n\r\n"])
async def test_a_second_request_before_the_answer_is_not_heard(wire: Wire, second: bytes) -> None:
    await wire.send(chat("Hello"), second)
    answer = await wire.answer()
    wire.writer.write_eof()

    assert answer.status == 200
    assert await wire.closed() == b""


async def test_an_upgrade_to_what_is_not_spoken_is_answered_as_http(wire: Wire) -> None:
    await wire.send(request("GET", "/healthz", "Connection: Upgrade", "Upgrade: h2c"))
    answer = await wire.answer()

    assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_head_is_get_without_a_body(runtime: Served) -> None:
    answers = {"/v1/models": 200, "/v1/nowhere": 404, "/v1/agents/assistant/submit": 405}
    for path, status in answers.items():
        response = await runtime.http.head(path)
        assert (response.status_code, response.content) == (status, b"")
        assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/chat/completions", "GET, HEAD, POST"),
        ("DELETE", "/v1/models/assistant", "GET, HEAD"),
        ("OPTIONS", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/agents", "GET, HEAD, POST"),
        ("PUT", "/v1/templates/react-agent/validate", "POST"),
        ("TRACE", "/healthz", "GET, HEAD"),
        ("PROPFIND", "/docs", "GET, HEAD"),
    ],
)
async def test_another_method_is_405_and_names_the_right_ones(
    runtime: Served, method: str, path: str, allowed: str
) -> None:
    response = await runtime.http.request(method, path)

    assert response.status_code == 405
    assert response.headers["Allow"] == allowed
    assert response.headers["Content-Type"] == "application/json"


async def test_every_answer_has_the_security_headers(runtime: Served) -> None:
    for path in ("/v1/models", "/v1/nowhere", "/v1/agents/nobody", "/docs", "/openapi.json"):
        headers = (await runtime.http.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Request-Id"].startswith("req_")
        assert "Server" not in headers


async def test_too_many_connections_of_one_client_are_turned_away_but_probes_pass(
    runtime: Served,
) -> None:
    async with AsyncExitStack() as opened:
        for _ in range(29):
            await _held(opened, runtime)
        last = await opened.enter_async_context(connected(runtime.url))
        await asyncio.sleep(0)
        await last.send(request("GET", "/v1/models"))
        refused = await last.answer()
        probe = await opened.enter_async_context(connected(runtime.url))
        await probe.send(request("GET", "/healthz"))

        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert (await probe.answer()).status == 200
    await runtime.until(lambda health: bool(health), "/v1/health")
    async with connected(runtime.url) as again:
        await again.send(request("GET", "/v1/models"))
        assert (await again.answer()).status == 200


async def test_too_many_connections_in_all_are_turned_away(runtime: Served) -> None:
    async with AsyncExitStack() as opened:
        for number in range(40):
            await _held(opened, runtime, f"127.0.0.{1 + number % 2}")
        last = await opened.enter_async_context(connected(runtime.url, "127.0.0.3"))
        await last.send(request("GET", "/v1/models"))
        refused = await last.answer()
        probe = await opened.enter_async_context(connected(runtime.url, "127.0.0.3"))
        await probe.send(request("GET", "/readyz"))

        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.json["error"]["code"] == "saturated"
        assert (await probe.answer()).status == 200


async def test_a_bug_is_a_500_that_tells_nothing_but_its_request(runtime: Served) -> None:
    def broken() -> None:
        raise RuntimeError("canary-7a1e")

    with runtime.container.run_queries.override(providers.Callable(broken)):
        response = await runtime.http.get("/v1/runs")

    assert response.status_code == 500
    assert response.json()["error"] == "INTERNAL_ERROR"
    assert response.headers["X-Request-Id"].startswith("req_")
    assert response.headers["X-Frame-Options"] == "DENY"
    assert "canary" not in response.text


async def _held(opened: AsyncExitStack, runtime: Served, address: str = "127.0.0.1") -> None:
    """A connection that has had an answer and is kept."""
    wire = await opened.enter_async_context(connected(runtime.url, address))
    await wire.send(request())
    await wire.answer()


async def test_one_user_has_so_many_runs_at_once_and_no_more(runtime: Served) -> None:
    body: dict[str, Any] = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}
    ann, bob = ({**body, "n": 4, "metadata": {"user_id": user}} for user in ("ann", "bob"))
    responses = await asyncio.gather(
        *(runtime.http.post("/v1/chat/completions", json=each) for each in (ann, ann, bob))
    )

    assert sorted(response.status_code for response in responses[:2]) == [200, 429]
    assert responses[2].status_code == 200
    refused = next(response for response in responses if response.status_code == 429)
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
