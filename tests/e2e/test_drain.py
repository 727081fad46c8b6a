"""From a signal to the end of the process: who is told what, and how long it takes."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.e2e.process import process
from tests.e2e.talk import of_type, talking
from tests.e2e.wire import chat, connected, request
from tests.upstream import FakeUpstream

SLOW = "delay:50 words:30"
ENDLESS = "delay:50 words:100000"
BLOCKING = """
import time
from typing import Any
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel
from runtime.templates.langgraph import LangGraphTemplate

class Blocking(LangGraphTemplate):
    "Holds the whole process up, as no template should."
    template_id, template_name, template_version = "blocking", "Blocking", "1.0.0"
    class Config(BaseModel):
        pass
    def build_graph(self) -> StateGraph[MessagesState]:
        return StateGraph(MessagesState).add_node(self.answer).add_edge(START, "answer")
    async def answer(self, state: MessagesState) -> dict[str, Any]:
        print("blocking", flush=True)
        time.sleep(60)
        return {}
"""


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as served:
        yield served


def variables(upstream: FakeUpstream, **more: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-test", **more}


def body(text: str, *, stream: bool = False) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "assistant", "stream": stream, "messages": messages}


async def events(client: httpx.AsyncClient, text: str) -> AsyncGenerator[str]:
    """The data of a stream's events, as they come."""
    asked = client.stream("POST", "/v1/chat/completions", json=body(text, stream=True))
    async with asked as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                yield line[6:]


async def begun(reading: AsyncIterator[str]) -> None:
    for _ in range(3):
        await anext(reading)


async def test_a_stream_finishes_while_new_runs_are_sent_elsewhere(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with (
        process(tmp_path, **variables(upstream, RUNTIME_GRACE_S="20")) as runtime,
        httpx.AsyncClient(base_url=runtime.url, timeout=20) as client,
    ):
        reading = events(client, SLOW)
        await begun(reading)
        assert (await client.get("/readyz")).status_code == 200
        runtime.signal()
        await runtime.until("/readyz", 503)

        for asked in (body("Hello"), body("Hello", stream=True)):
            refused = await client.post("/v1/chat/completions", json=asked)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.json()["error"]["code"] == "draining"
            assert refused.headers["Connection"] == "close"
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 200
        rest = [event async for event in reading]
        last_but_one = json.loads(rest[-2])["choices"][0]

        assert (rest[-1], last_but_one["finish_reason"]) == ("[DONE]", "stop")
        assert await runtime.ended(5) == 0
        assert runtime.runs() == ["completed"]


async def test_what_outlasts_the_grace_period_ends_with_an_error_in_time(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with (
        process(tmp_path, **variables(upstream, RUNTIME_GRACE_S="1")) as runtime,
        httpx.AsyncClient(base_url=runtime.url, timeout=20) as client,
        connected(runtime.url) as uploading,
        connected(runtime.url) as unread,
    ):
        reading = [events(client, ENDLESS) for _ in range(3)]
        await asyncio.gather(*map(begun, reading))
        upstream.arrived.clear()
        whole = asyncio.create_task(
            client.post("/v1/chat/completions", json=body("fault:slow-headers"))
        )
        await upstream.arrived.wait()
        await uploading.send(chat("Hello")[:-5])
        await unread.send(chat("words:100000", stream=True))
        since = monotonic()
        runtime.signal()

        for each in reading:
            *before, last = [event async for event in each]
            assert json.loads(last)["error"]["code"] == "draining"
            finishes = [json.loads(event)["choices"][0]["finish_reason"] for event in before]
            assert set(finishes) == {None}
        refused = await whole
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert (await uploading.answer()).status == 503
        assert await runtime.ended(10) == 0
        assert monotonic() - since < 1 + 5
        assert set(runtime.runs()) <= {"cancelled", "completed"}
        assert runtime.runs().count("cancelled") >= 4
        assert "Traceback" not in runtime.log


async def test_new_runs_are_taken_until_the_load_balancer_has_had_its_time(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with (
        process(tmp_path, **variables(upstream, RUNTIME_DRAIN_DELAY_S="2")) as runtime,
        httpx.AsyncClient(base_url=runtime.url, timeout=20) as client,
    ):
        runtime.signal()
        await runtime.until("/readyz", 503)
        answer = await client.post("/v1/chat/completions", json=body("Hello"))

        assert answer.status_code == 200
        assert await runtime.ended(10) == 0
        assert runtime.runs() == ["completed"]


async def test_without_work_it_ends_at_once_and_idle_connections_do_not_matter(
    tmp_path: Path,
) -> None:
    async with (
        process(tmp_path, RUNTIME_GRACE_S="60") as runtime,
        connected(runtime.url) as idle,
        connected(runtime.url),
    ):
        await idle.send(request())
        await idle.answer()
        runtime.signal(signal.SIGINT)

        assert await runtime.ended(5) == 0
        assert await idle.closed() == b""


async def test_a_second_signal_does_not_wait_but_still_tells_and_records(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with (
        process(tmp_path, **variables(upstream, RUNTIME_GRACE_S="60")) as runtime,
        httpx.AsyncClient(base_url=runtime.url, timeout=20) as client,
        aclosing(events(client, ENDLESS)) as reading,
    ):
        await begun(reading)
        runtime.signal(signal.SIGINT)
        await runtime.until("/readyz", 503)
        runtime.signal(signal.SIGINT)
        rest = [event async for event in reading]

        assert json.loads(rest[-1])["error"]["code"] == "draining"
        assert await runtime.ended(5) == 128 + signal.SIGINT
        assert runtime.runs() == ["cancelled"]


async def test_a_third_signal_ends_even_a_process_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "blocking.py").write_text(BLOCKING, encoding="utf-8")
    async with (
        process(tmp_path, RUNTIME_TEMPLATE_DIRS="templates") as runtime,
        httpx.AsyncClient(base_url=runtime.url) as client,
    ):
        agent = {"name": "Hang", "template_id": "blocking", "status": "published"}
        assert (await client.post("/v1/agents", json=agent)).status_code == 201
        asked = asyncio.create_task(
            client.post("/v1/chat/completions", json={**body("Hello"), "model": "hang"})
        )
        await runtime.printed("blocking")
        for _ in range(3):
            runtime.signal(signal.SIGINT)
            await asyncio.sleep(0.1)

        assert await runtime.ended(5) == 128 + signal.SIGINT
        with pytest.raises(httpx.TransportError):
            await asked


async def test_websockets_finish_what_goes_on_and_are_told_that_the_service_restarts(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with (
        process(tmp_path, **variables(upstream, RUNTIME_GRACE_S="20")) as runtime,
        talking(runtime.url) as idle,
        talking(runtime.url) as busy,
    ):
        await busy.ask(SLOW, "r-1")
        await busy.until(lambda frame: frame["data"].get("event_number") == 3)
        runtime.signal()
        await runtime.until("/readyz", 503)

        assert await idle.closed() == (1012, [])
        await busy.ask("Hello", "r-2")
        code, heard = await busy.closed()
        assert [each["code"] for each in of_type(heard, "error")] == ["draining"]
        assert of_type(heard, "stream_event")[-1]["event_type"] == "finish"
        assert code == 1012
        assert await runtime.ended(5) == 0
        assert runtime.runs() == ["completed"]


async def test_a_websocket_s_request_that_outlasts_the_grace_period_ends_with_an_error(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with (
        process(tmp_path, **variables(upstream, RUNTIME_GRACE_S="1")) as runtime,
        talking(runtime.url) as talk,
    ):
        await talk.ask(ENDLESS, "r-1")
        await talk.ask(ENDLESS, "r-2", resumable=True)
        await talk.until(lambda frame: frame["data"].get("event_number") == 3)
        runtime.signal()
        code, heard = await talk.closed()

        ends = [each for each in of_type(heard, "stream_event") if each["event_type"] == "error"]
        assert {each["request_id"] for each in ends} == {"r-1", "r-2"}
        assert {each["event_data"]["code"] for each in ends} == {"draining"}
        assert code == 1012
        assert await runtime.ended(5) == 0
        assert runtime.runs() == ["cancelled"] * 2
        assert "Traceback" not in runtime.log
