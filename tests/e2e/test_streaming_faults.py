"""`/api/streaming` when a provider fails or a client leaves, in every format and mode."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.server import Json, Served, serving
from tests.e2e.wire import connected, request
from tests.upstream import FakeUpstream
from tests.upstream.answers import chunk, event
from tests.upstream.wire import Exchange

CHAT = "/api/streaming/chat"
COMPARE = "/api/streaming/compare"
FORMATS = ["sse", "text", "jsonl", "ai-sdk", "proxy"]
THREE = ["openai/a", "openai/b", "openai/c"]
ENDLESS = "delay:20 words:100000"
ENDS = ("[DONE]", '"done"', "event: done", '"finish"', '"is_final":true')


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def runtime(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Served]:
    async with serving(
        tmp_path,
        openai_base_url=upstream.base_url,
        openai_api_key="sk-test",
        send_timeout_s=0.4,
        model_attempts=1,
    ) as served:
        yield served


def sent(path: str = CHAT, **body: object) -> bytes:
    data = json.dumps(body).encode()
    length = f"Content-Length: {len(data)}"
    return request("POST", path, "Content-Type: application/json", length) + data


async def everything_has_ended(runtime: Served, upstream: FakeUpstream, runs: int) -> None:
    """The calls within a second of the leaving."""
    async with asyncio.timeout(1):
        for asked in upstream.requests:
            await asked.closed.wait()
    await runtime.until(lambda h: h["metrics"]["running"] == 0, "/v1/health")
    recorded = await runtime.until(lambda found: len(found["data"]) == runs, "/v1/runs")
    assert [run["status"] for run in recorded["data"]] == ["cancelled"] * runs


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("fault", "status"),
    [("400", 400), ("401", 502), ("429", 429), ("500", 502), ("garbage", 502)],
)
async def test_a_failure_before_the_first_byte_keeps_its_status(
    runtime: Served, format: str, fault: str, status: int
) -> None:
    body = {"message": f"fault:{fault}", "provider_id": "openai", "stream_format": format}
    response = await runtime.http.post(CHAT, json=body)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.json()["success"] is False


@pytest.mark.parametrize("mode", ["standard", "buffered", "chunked"])
@pytest.mark.parametrize("format", [name for name in FORMATS if name != "text"])
@pytest.mark.parametrize("fault", ["cut", "no-finish", "garbage-json", "error-event"])
async def test_a_failure_within_the_stream_is_its_end(
    runtime: Served, format: str, fault: str, mode: str
) -> None:
    body = {
        "message": f"fault:{fault}",
        "provider_id": "openai",
        "stream_format": format,
        "generator_mode": mode,
    }
    response = await runtime.http.post(CHAT, json=body)

    assert response.status_code == 200
    assert "One" in response.text
    assert (
        "error"
        in response.text.rstrip().splitlines()[-2 if format != "jsonl" else -1]
        + (response.text.rstrip().splitlines()[-1])
    )
    assert not any(end in response.text for end in ENDS)


@pytest.mark.parametrize("fault", ["cut", "no-finish", "garbage-json", "error-event"])
async def test_raw_text_that_breaks_off_does_not_look_whole(runtime: Served, fault: str) -> None:
    body = {"message": f"fault:{fault}", "provider_id": "openai", "stream_format": "text"}
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        await runtime.http.post(CHAT, json=body)

    assert (await runtime.http.post(CHAT, json={**body, "message": "Hi"})).text == "You said: Hi"


@pytest.mark.parametrize("mode", ["interleaved", "priority"])
async def test_all_that_fail_within_the_stream_end_it_without_a_good_end(
    runtime: Served, mode: str
) -> None:
    body = {"message": "fault:cut", "providers": THREE, "generator_mode": mode}
    text = (await runtime.http.post(CHAT, json=body)).text

    last = json.loads(text.rstrip().splitlines()[-2].removeprefix("data: "))
    assert (last["type"], last["code"]) == ("error", "upstream_error")
    assert "source" not in last
    assert not any(end in text for end in ENDS)


STREAMS: list[tuple[str, Json, int]] = [
    *((CHAT, {"provider_id": "openai", "stream_format": format}, 1) for format in FORMATS),
    (CHAT, {"provider_id": "openai", "generator_mode": "buffered"}, 1),
    (CHAT, {"provider_id": "openai", "generator_mode": "chunked"}, 1),
    (CHAT, {"providers": THREE, "generator_mode": "interleaved"}, 3),
    (CHAT, {"providers": THREE, "generator_mode": "priority"}, 3),
    (COMPARE, {"providers": THREE}, 3),
]


@pytest.mark.parametrize(
    ("path", "body", "runs", "message"),
    [
        *((*each, ENDLESS) for each in STREAMS),
        *((*each, "fault:slow-headers") for each in STREAMS),
        (CHAT, {"provider_id": "openai", "stream": False}, 1, "fault:slow-headers"),
    ],
)
async def test_who_leaves_closes_every_call(
    runtime: Served, upstream: FakeUpstream, path: str, body: Json, runs: int, message: str
) -> None:
    async with connected(runtime.url) as wire:
        await wire.send(sent(path, message=message, **body))
        async with asyncio.timeout(10):
            while len(upstream.requests) < runs:
                upstream.arrived.clear()
                await upstream.arrived.wait()
            if message == ENDLESS and path == CHAT:
                await wire.reader.readuntil(b"word3")
        wire.writer.close()

    await everything_has_ended(runtime, upstream, runs)


async def test_in_rank_nobody_is_asked_after_the_client_has_left(
    runtime: Served, upstream: FakeUpstream
) -> None:
    config = {"strategy": "ranked", "providers": THREE}
    body = {"message": "fault:slow-headers", "generator_mode": "priority"}
    async with connected(runtime.url) as wire:
        await wire.send(sent(**body, generator_config=config))
        await upstream.arrived.wait()
        wire.writer.close()

    await everything_has_ended(runtime, upstream, 1)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"provider_id": "openai", "stream_format": "text"},
        {"provider_id": "openai", "generator_mode": "chunked"},
        {"provider_id": "openai", "generator_mode": "buffered"},
        {"providers": THREE, "generator_mode": "interleaved"},
    ],
)
async def test_a_client_that_does_not_read_holds_the_providers_back_and_is_cut_off(
    runtime: Served, upstream: FakeUpstream, body: Json
) -> None:
    written = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal written
        exchange.start()
        while True:
            await exchange.write(event(chunk({"content": "x " * 25_000})))
            written += 50_000

    count = len(body.get("providers", [1]))
    upstream.script(*[flood] * count)
    host, port = runtime.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as deaf:
        deaf.sendall(sent(message="Hello", **body))
        await upstream.arrived.wait()
        async with asyncio.timeout(20):
            await upstream.requests[0].closed.wait()

        await everything_has_ended(runtime, upstream, count)
        assert written < count * 60_000_000


async def test_a_drained_runtime_ends_streams_with_an_error(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        text = ""
        async with serving(
            tmp_path, openai_base_url=upstream.base_url, openai_api_key="sk", grace_s=1
        ) as runtime:
            body = {"message": ENDLESS, "provider_id": "openai"}
            client = httpx.AsyncClient(base_url=runtime.url)
            stream = client.stream("POST", CHAT, json=body)
            response = await stream.__aenter__()
            lines = response.aiter_text()
            text += await anext(lines)
            reading = asyncio.create_task(_rest(lines))
        text += await reading
        await client.aclose()
    assert '"code":"draining"' in text
    assert "[DONE]" not in text


async def _rest(pieces: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in pieces])


async def test_no_task_is_left_behind(runtime: Served, upstream: FakeUpstream) -> None:
    async def visit(number: int) -> None:
        kinds: list[Json] = [
            {"provider_id": "openai", "generator_mode": "buffered"},
            {"providers": THREE, "generator_mode": "interleaved"},
            {"providers": THREE, "generator_mode": "priority"},
        ]
        async with connected(runtime.url) as wire:
            await wire.send(sent(message=ENDLESS, **kinds[number % 3]))
            await wire.reader.readuntil(b"word3")

    async def nothing_runs() -> None:
        await runtime.until(lambda h: h["metrics"]["running"] == 0, "/v1/health")

    async def most_tasks() -> int:
        """Those included that the runtime has from time to time."""
        most = 0
        for _ in range(60):
            most = max(most, len(asyncio.all_tasks()))
            await asyncio.sleep(0.02)
        return most

    await visit(0)
    await nothing_runs()
    count = await most_tasks()
    await asyncio.gather(*map(visit, range(12)))
    await nothing_runs()

    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > count:  # noqa: ASYNC110 - tasks announce nothing
            await asyncio.sleep(0.01)
