"""A client that leaves, however and whenever: its model call is closed and its place is free."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runtime.domain.services.tools import ToolOutcome, ToolTraits
from runtime.domain.value_objects.chat import ToolSpec
from tests.e2e.server import Served, serving
from tests.e2e.wire import Wire, chat, connected, respond
from tests.upstream import FakeUpstream, faults
from tests.upstream.answers import chunk, event
from tests.upstream.wire import Exchange

ENDLESS = "delay:20 words:100000"


@dataclass
class Forever:
    """A tool that never comes to an end by itself."""

    spec: ToolSpec = field(default_factory=lambda: ToolSpec("forever", "Waits.", {}, None))
    traits: ToolTraits = field(default_factory=ToolTraits)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def problem(self, arguments: str) -> str | None:
        return None

    async def __call__(self, arguments: str) -> ToolOutcome:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()
        return ToolOutcome("success", arguments)


@dataclass
class Setup:
    runtime: Served
    upstream: FakeUpstream
    tool: Forever

    async def everything_has_ended(self, runs: int = 1) -> None:
        """Within a second of the leaving."""
        async with asyncio.timeout(1):
            for asked in self.upstream.requests:
                await asked.closed.wait()
            await self.runtime.until(lambda h: h["metrics"]["running"] == 0, "/v1/health")
        recorded = (await self.runtime.get("/v1/runs"))["data"]
        assert [run["status"] for run in recorded] == ["cancelled"] * runs


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    tool = Forever()
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path,
            tools=[tool],
            openai_base_url=upstream.base_url,
            openai_api_key="sk-test",
            send_timeout_s=0.4,
        ) as runtime,
    ):
        yield Setup(runtime, upstream, tool)


@pytest.fixture
async def wire(setup: Setup) -> AsyncIterator[Wire]:
    async with connected(setup.runtime.url) as opened:
        yield opened


def hang_up(wire: Wire) -> None:
    wire.writer.close()


def reset(wire: Wire) -> None:
    wire.writer.transport.abort()


def half_close(wire: Wire) -> None:
    """It sends no more and may still listen: nobody does that who wants an answer."""
    wire.writer.write_eof()


async def answered(setup: Setup, key: str) -> None:
    """A key that is free again: its next request is carried out, whatever it is."""
    async with connected(setup.runtime.url) as wire:
        await wire.send(chat("Hello", key=key))
        answer = await wire.answer()
    assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)


@pytest.mark.parametrize("key", ["", "k-1"])
@pytest.mark.parametrize("leave", [hang_up, reset, half_close])
@pytest.mark.parametrize(
    ("text", "stream"),
    [
        ("fault:slow-headers", False),
        ("fault:slow-headers", True),
        ("fault:silent-headers", True),
        (ENDLESS, True),
    ],
)
async def test_leaving_closes_the_call_to_the_provider(
    setup: Setup, wire: Wire, leave: Callable[[Wire], None], text: str, stream: bool, key: str
) -> None:
    await wire.send(chat(text, stream=stream, key=key))
    await setup.upstream.arrived.wait()
    if text == ENDLESS:
        await wire.reader.readuntil(b"word3")
    leave(wire)

    await setup.everything_has_ended()
    await answered(setup, key)


@pytest.mark.parametrize("key", ["", "k-1"])
@pytest.mark.parametrize(
    ("text", "stream"),
    [("fault:slow-headers", False), ("fault:slow-headers", True), (ENDLESS, True)],
)
async def test_leaving_closes_the_calls_of_every_choice(
    setup: Setup, wire: Wire, text: str, stream: bool, key: str
) -> None:
    await wire.send(chat(text, stream=stream, n=3, key=key))
    while len(setup.upstream.requests) < 3:
        setup.upstream.arrived.clear()
        await setup.upstream.arrived.wait()
    if text == ENDLESS:
        await wire.reader.readuntil(b"word3")
    hang_up(wire)

    await setup.everything_has_ended(runs=3)
    await answered(setup, key)


@pytest.mark.parametrize(("text", "stream"), [("fault:slow-headers", False), (ENDLESS, True)])
async def test_leaving_a_response_closes_the_call_and_stores_nothing(
    setup: Setup, wire: Wire, text: str, stream: bool
) -> None:
    await wire.send(respond(text, stream=stream))
    await setup.upstream.arrived.wait()
    if stream:
        await wire.reader.readuntil(b"word3")
    hang_up(wire)

    await setup.everything_has_ended()
    (run,) = (await setup.runtime.get("/v1/runs"))["data"]
    await setup.runtime.get(f"/v1/responses/{run['id'].replace('run', 'resp', 1)}", status=404)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_in_the_background_goes_on_when_its_caller_leaves(
    setup: Setup, wire: Wire, stream: bool
) -> None:
    await wire.send(respond("delay:20 words:40", stream=stream, background=True))
    await wire.reader.readuntil(b"word3" if stream else b"queued")
    hang_up(wire)

    (run,) = (await setup.runtime.get("/v1/runs"))["data"]
    ended = await setup.runtime.until(lambda run: bool(run["ended_at"]), f"/v1/runs/{run['id']}")
    assert ended["status"] == "completed"
    stored = await setup.runtime.get(f"/v1/responses/{run['id'].replace('run', 'resp', 1)}")
    assert stored["output"][0]["content"][0]["text"].endswith("word39")


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_ends_the_wait_for_another_try(
    setup: Setup, wire: Wire, stream: bool
) -> None:
    setup.upstream.script(faults.rate_limited(Retry_After="4"))
    await wire.send(chat("Hello", stream=stream))
    await setup.upstream.arrived.wait()
    await setup.upstream.requests[0].answered.wait()
    hang_up(wire)

    await setup.runtime.until(lambda h: h["metrics"]["running"] == 0, "/v1/health")
    (run,) = (await setup.runtime.get("/v1/runs"))["data"]
    assert run["status"] == "cancelled"
    assert len(setup.upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_stops_the_tool_that_runs(setup: Setup, wire: Wire, stream: bool) -> None:
    await setup.runtime.publish(
        name="Tools", template_id="react-agent", template_config={"tools": ["forever"]}
    )
    await wire.send(chat("use forever", model="tools", stream=stream))
    await setup.tool.began.wait()
    hang_up(wire)

    async with asyncio.timeout(1):
        await setup.tool.stopped.wait()
        await setup.runtime.until(lambda h: h["metrics"]["running"] == 0, "/v1/health")


async def test_leaving_is_noticed_with_a_second_request_in_the_pipe(
    setup: Setup, wire: Wire
) -> None:
    await wire.send(chat("fault:slow-headers"), chat("Hello"))
    await setup.upstream.arrived.wait()
    hang_up(wire)

    await setup.everything_has_ended()


async def test_a_client_that_does_not_read_holds_the_provider_back_and_is_cut_off(
    setup: Setup,
) -> None:
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        exchange.start()
        while True:
            await exchange.write(event(chunk({"content": "x" * 50_000})))
            sent += 50_000

    setup.upstream.script(flood)
    host, port = setup.runtime.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as deaf:
        deaf.sendall(chat("Hello", stream=True))
        await setup.upstream.arrived.wait()
        async with asyncio.timeout(10):
            await setup.upstream.requests[0].closed.wait()

        await setup.everything_has_ended()
        assert sent < 60_000_000


async def test_no_task_is_left_behind_by_those_who_leave(setup: Setup) -> None:
    async def visit(stream: bool) -> None:
        async with connected(setup.runtime.url) as wire:
            await wire.send(chat(ENDLESS if stream else "fault:slow-headers", stream=stream))
            if stream:
                await wire.reader.readuntil(b"word3")

    await visit(True)
    await setup.everything_has_ended()
    count = len(asyncio.all_tasks())
    await asyncio.gather(*(visit(number % 2 == 0) for number in range(40)))
    await setup.runtime.until(lambda h: h["metrics"]["running"] == 0, "/v1/health")

    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > count:  # noqa: ASYNC110 - tasks announce nothing
            await asyncio.sleep(0.01)
