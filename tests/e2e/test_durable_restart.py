"""What goes on when its process does not: who waits, reads or watches gets the rest."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from tests.e2e.browser import browser_or_skip, page
from tests.e2e.process import Process, process
from tests.postgres import fresh_database
from tests.upstream import FakeUpstream, answers

Json = dict[str, Any]
SLOW = "delay:40 words:60"
LAST_WORD = "word59"
PAYMENTS = """
from pathlib import Path
from runtime.tools import tool

@tool(needs_approval=True)
def pay(amount: int) -> str:
    "Pay."
    with Path("paid").open("a") as book:
        book.write(f"{amount} ")
    return f"paid {amount}"
"""
WATCH = """
new Promise((resolve) => {
    const source = new EventSource('/v1/runs/RUN/events');
    const seen = [];
    for (const type of ['text.delta', 'output.discarded', 'run.completed', 'run.failed'])
        source.addEventListener(type, (event) => {
            seen.push({...JSON.parse(event.data), type, seq: Number(event.lastEventId)});
            if (type.startsWith('run.')) { source.close(); resolve(seen); }
        });
})
"""
"""Until its end, over as many connections as that takes."""
READ_SOME = """
new Promise((resolve) => {
    const source = new EventSource('/v1/runs/RUN/events');
    const seen = [];
    source.addEventListener('text.delta', (event) => {
        seen.push({...JSON.parse(event.data), seq: Number(event.lastEventId)});
        sessionStorage.setItem('seen', JSON.stringify(seen));
        if (seen.length === 5) resolve();
    });
})
"""
READ_ON = """
(async () => {
    const seen = JSON.parse(sessionStorage.getItem('seen'));
    const headers = {'Last-Event-ID': String(seen.at(-1).seq)};
    const answer = await fetch('/v1/runs/RUN/events', {headers});
    return [seen, await answer.text()];
})()
"""


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as served:
        yield served


def variables(upstream: FakeUpstream, **more: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-test", **more}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def ended(client: httpx.AsyncClient, run: str, status: str = "completed") -> Json:
    async with asyncio.timeout(20):
        while (found := (await client.get(f"/v1/runs/{run}")).json())["status"] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return dict(found)


async def begin(client: httpx.AsyncClient, **body: object) -> str:
    answer = await client.post("/v1/runs", json={"model": "assistant", "input": SLOW, **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def said(events: list[Json]) -> str:
    """What counts of the text."""
    kept: list[Json] = []
    for event in events:
        if event["type"] == "output.discarded":
            kept = [each for each in kept if each["seq"] <= event["after"]]
        elif event["type"] == "text.delta":
            kept.append(event)
    return "".join(each["text"] for each in kept)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_an_approval_waits_through_a_restart_and_the_run_goes_on(
    tmp_path: Path, upstream: FakeUpstream, how: signal.Signals
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "payments.py").write_text(PAYMENTS, encoding="utf-8")
    settings = variables(upstream, RUNTIME_TEMPLATE_DIRS="templates")
    upstream.script(answers.calls("pay", {"amount": 12}))
    agent = {"name": "Payer", "template_id": "react-agent", "template_config": {"tools": ["pay"]}}
    async with process(tmp_path, **settings) as runtime, http(runtime) as client:
        made = await client.post("/v1/agents", json={**agent, "status": "published"})
        assert made.status_code == 201, made.text
        run = await begin(client, model="payer", input="Pay the bill")
        await ended(client, run, "waiting")
        runtime.signal(how)
        await runtime.ended()

    async with process(tmp_path, **settings) as runtime, http(runtime) as client:
        (asked,) = (await client.get("/v1/approvals", params={"status": "pending"})).json()["data"]
        assert (asked["run_id"], asked["tool"]) == (run, "pay")
        assert asked["arguments"] == {"amount": 12}
        path = f"/v1/runs/{run}/approvals/{asked['id']}"
        decided = await client.post(path, json={"decision": "approve"})
        assert decided.status_code == 200, decided.text
        done = await ended(client, run)

    assert done["output"] == "The tool said: paid 12"
    assert (tmp_path / "paid").read_text(encoding="utf-8") == "12 "
    assert len(upstream.requests) == 2


def http(runtime: Process) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=runtime.url, timeout=20)


def openai(runtime: Process) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{runtime.url}/v1", api_key="local", max_retries=0)


async def test_a_client_gets_the_rest_from_another_replica_when_its_own_is_killed(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with AsyncExitStack() as opened:
        settings = variables(
            upstream,
            RUNTIME_DATABASE_URL=opened.enter_context(fresh_database()),
            RUNTIME_SECRET_KEY="a-key-that-both-replicas-have",
        )
        for name in "ab":
            (tmp_path / name).mkdir()
        first = await opened.enter_async_context(process(tmp_path / "a", **settings))
        client = await opened.enter_async_context(openai(first))
        stream = await client.responses.create(
            model="assistant", input=SLOW, background=True, stream=True
        )
        seen: list[Any] = []
        async for event in stream:
            seen.append(event)
            if len(seen) == 12:
                break
        await stream.close()
        second = await opened.enter_async_context(process(tmp_path / "b", **settings))
        first.signal(signal.SIGKILL)
        await first.ended()
        other = await opened.enter_async_context(openai(second))
        id, last = seen[0].response.id, seen[-1].sequence_number
        async with asyncio.timeout(20):
            rest = await other.responses.retrieve(id, stream=True, starting_after=last)
            seen += [event async for event in rest]

    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"
    assert seen[-1].response.output_text.endswith(LAST_WORD)
    # The model answered the same again: what had been said was not said twice.
    text = "".join(e.delta for e in seen if e.type == "response.output_text.delta")
    assert text == seen[-1].response.output_text


async def test_a_tab_that_is_refreshed_mid_answer_shows_the_rest(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    browser_or_skip()
    async with (
        process(tmp_path, **variables(upstream)) as runtime,
        http(runtime) as client,
        page(f"{runtime.url}/docs", tmp_path / "chromium") as tab,
    ):
        run = await begin(client)
        await tab.evaluate(READ_SOME.replace("RUN", run))
        await tab.reload()
        seen, text = await tab.evaluate(READ_ON.replace("RUN", run))
        whole = await ended(client, run)

    rest = _events(text)
    last = seen[-1]["seq"]
    assert [each["seq"] for each in rest] == list(range(last + 1, last + 1 + len(rest)))
    assert rest[-1]["type"] == "run.completed"
    assert said(seen + rest) == whole["output"]
    assert len([each for each in rest if each["type"] == "text.delta"]) > 5


async def test_a_tab_reconnects_by_itself_to_a_runtime_that_was_killed(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    browser_or_skip()
    port = free_port()
    async with AsyncExitStack() as opened:
        first = await opened.enter_async_context(process(tmp_path, port, **variables(upstream)))
        tab = await opened.enter_async_context(page(f"{first.url}/docs", tmp_path / "chromium"))
        run = await begin(await opened.enter_async_context(http(first)))
        watching = asyncio.create_task(tab.evaluate(WATCH.replace("RUN", run)))
        await asyncio.sleep(0.5)
        first.signal(signal.SIGKILL)
        await first.ended()
        second = await opened.enter_async_context(process(tmp_path, port, **variables(upstream)))
        async with asyncio.timeout(20):
            seen = await watching
        whole = await ended(await opened.enter_async_context(http(second)), run)

    assert [event["seq"] for event in seen] == sorted({event["seq"] for event in seen})
    assert seen[-1]["type"] == "run.completed"
    assert said(seen) == whole["output"]
    assert whole["attempt"] == 2
    assert whole["output"].endswith(LAST_WORD)


def _events(text: str) -> list[Json]:
    """Of an event stream as it was sent."""
    found: list[Json] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in fields:
            data = json.loads(fields["data"])
            found.append({**data, "type": fields["event"], "seq": int(fields["id"])})
    return found
