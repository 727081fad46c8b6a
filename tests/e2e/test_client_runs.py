"""Durable runs through the Python clients: each test for the sync and the async one."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.client import (
    AgentRuntimeClient,
    ApprovalDecided,
    ApprovalRequested,
    AsyncAgentRuntimeClient,
    BadRequestError,
    ConflictError,
    Event,
    NotFoundError,
    OutputDiscarded,
    RunCancelled,
    RunCompleted,
    RunResumed,
    Start,
    StepFinished,
    TextDelta,
    UnavailableError,
    UnexpectedAnswerError,
    attempts,
    run_events,
)
from runtime.tools import tool
from tests.clients import KINDS, Either, either
from tests.e2e.process import process
from tests.e2e.server import Served, serving
from tests.scripted import HANG_UP, Reply, saying, scripted, streaming
from tests.upstream import FakeUpstream

COUNT = "Count to 5"


@tool(needs_approval=True)
def pay(amount: int) -> str:
    """Pay out."""
    return f"paid {amount}"


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, tools=[pay]) as served:
        yield served


@pytest.fixture(params=KINDS)
async def client(request: pytest.FixtureRequest, runtime: Served) -> AsyncIterator[Either]:
    async with either(request.param, runtime.url) as made:
        yield made


async def test_a_run_is_ordered_followed_and_looked_at(client: Either) -> None:
    run = await client.call("start_run", "assistant", COUNT, metadata={"k": "v"}, temperature=0)
    events = await client.read("events", run["id"])
    done = await client.call("wait", run["id"])

    assert (run["status"], done["status"], done["metadata"]) == ("queued", "completed", {"k": "v"})
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[0], Start)
    assert isinstance(events[-1], RunCompleted)
    assert events[-1].usage["output_tokens"] == done["usage"]["output_tokens"]
    (step,) = await client.call("list_run_steps", run["id"])
    (finished,) = [event for event in events if isinstance(event, StepFinished)]
    assert (step["id"], step["status"]) == (finished.step_id, "success")
    assert await client.read("events", run["id"], after=3) == events[3:]
    assert await client.read("events", run["id"], after=len(events)) == []
    assert [each["id"] for each in await client.call("list_runs")] == [run["id"]]


async def test_its_text_is_what_the_run_has_put_out(client: Either) -> None:
    run = await client.call("start_run", "assistant", COUNT)

    if isinstance(client.client, AgentRuntimeClient):
        text = await asyncio.to_thread(client.client.events(run["id"]).text)
    else:
        text = await client.client.events(run["id"]).text()
    assert text == (await client.call("wait", run["id"]))["output"]


async def test_a_run_is_cancelled_retried_and_gone_on_with(client: Either) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    run = await client.call("start_run", "assistant", COUNT, not_before=later, priority=3)
    cancelled = await client.call("cancel_run", run["id"])
    retried = await client.call("retry_run", run["id"])
    resumed = await client.call("resume_run", run["id"])

    assert (cancelled["status"], cancelled["priority"]) == ("cancelled", 3)
    (event,) = await client.read("events", run["id"])
    assert isinstance(event, RunCancelled)
    kinds = [each["origin"]["kind"] for each in (retried, resumed)]
    assert kinds == ["retry", "resume"]
    with pytest.raises(BadRequestError):
        await client.call("start_run", "assistant", COUNT, not_before=datetime(2090, 1, 1))


async def test_a_run_goes_on_with_a_word_and_is_forked(client: Either, runtime: Served) -> None:
    config = {"tools": ["pay"]}
    await runtime.publish(name="Cashier", template_id="react-agent", template_config=config)
    run = await client.call("start_run", "cashier", 'pay {"amount": 40}')
    await runtime.until(lambda found: found["status"] == "waiting", f"/v1/runs/{run['id']}")

    (asked,) = await client.call("list_approvals", status="pending")
    assert list(await client.call("list_approvals", run_id=run["id"])) == [asked]
    seen = {"arguments_hash": asked["arguments_hash"], "arguments": {"amount": 20}}
    await client.call("decide_approval", run["id"], asked["id"], "edit", reason="Half.", **seen)
    events = await client.read("events", run["id"])
    (call,) = await client.call("list_run_tool_calls", run["id"])
    assert (call["name"], call["output"]) == ("pay", "paid 20")
    (request,) = [event for event in events if isinstance(event, ApprovalRequested)]
    (word,) = [event for event in events if isinstance(event, ApprovalDecided)]
    assert (request.approval_id, request.tool_name) == (asked["id"], "pay")
    assert (word.decision, word.reason) == ("edit", "Half.")

    *_, first = await client.call("list_run_checkpoints", run["id"])
    fork = await client.call("fork_run", run["id"], first["id"], input="Hello")
    done = await client.call("wait", fork["id"])
    assert (done["origin"]["id"], done["status"]) == (run["id"], "completed")


async def test_a_run_that_can_not_be_followed_is_refused(client: Either) -> None:
    answer = await client.call("chat", model="assistant", messages="Hello")
    run = answer.raw["metadata"]["run_id"]

    assert (await client.call("wait", run))["durable"] is False
    with pytest.raises(ConflictError):
        await client.read("events", run)
    with pytest.raises(NotFoundError):
        await client.read("events", "run_0")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def test_readers_outlive_a_runtime_that_is_killed_and_started_again(tmp_path: Path) -> None:
    port = free_port()
    async with AsyncExitStack() as opened:
        upstream = await opened.enter_async_context(FakeUpstream())
        variables = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-test"}
        first = await opened.enter_async_context(process(tmp_path, port, **variables))
        plain = opened.enter_context(AgentRuntimeClient(first.url))
        client = await opened.enter_async_context(AsyncAgentRuntimeClient(first.url))
        run = await client.start_run("assistant", "delay:40 words:30")
        seen: list[Event] = []
        in_thread = asyncio.create_task(asyncio.to_thread(list, plain.events(run["id"])))
        async for event in client.events(run["id"]):
            seen.append(event)
            if len(seen) == 12:
                first.signal(signal.SIGKILL)
                await first.ended()
                await opened.enter_async_context(process(tmp_path, port, **variables))
        done = await client.wait(run["id"])
        in_thread_too = await in_thread

    assert in_thread_too == seen
    assert [event.number for event in seen] == list(range(1, len(seen) + 1))
    assert isinstance(seen[-1], RunCompleted)
    assert any(isinstance(event, RunResumed) for event in seen)
    assert (done["attempt"], done["output"].split()[-1]) == (2, "word29")
    text = run_events.Text()
    for event in seen:
        text.add(event)
    assert str(text) == done["output"]


def frame(seq: int, type: str = "text.delta", **data: object) -> dict[str, object]:
    return {"seq": seq, "type": type, **({"text": f"{seq} "} if type == "text.delta" else data)}


ENDED = frame(4, "run.completed", finish_reason="stop", usage={})
DRAINING = {"error": {"code": "draining", "message": "It stops."}}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_WAIT_S", 0.001)


async def read(kind: Any, *replies: Reply, **options: Any) -> tuple[list[Event], list[str]]:  # noqa: ANN401
    """The events, and what was asked for."""
    async with scripted(*replies) as server, either(kind, server.url, **options) as client:
        events = await client.read("events", "run_1")
        return events, [asked.path for asked in server.asked]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "lost",
    [
        streaming(frame(1), frame(2), cut=True),
        streaming(frame(1), frame(2), DRAINING),
        streaming(frame(1), frame(2)),
        Reply(streaming(frame(1), frame(2), frame(3)).body[:-9], cut=True),
    ],
    ids=["cut", "draining", "ended early", "cut in an event"],
)
async def test_the_rest_is_asked_for_behind_the_last_event(kind: Any, lost: Reply) -> None:  # noqa: ANN401
    away = [HANG_UP, saying({"error": "no"}, 503), saying({"error": "no"}, 502)]
    again = streaming(frame(2), frame(3), ENDED)
    events, paths = await read(kind, lost, *away, again, max_retries=0)

    assert [event.number for event in events] == [1, 2, 3, 4]
    assert [path.rpartition("=")[2] for path in paths] == ["0", "2", "2", "2", "2"]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("kind", KINDS)
async def test_it_does_not_ask_for_ever(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.setattr(run_events, "MOST_FAILURES", 3)
    with pytest.raises(UnavailableError):
        await read(kind, streaming(frame(1)), streaming(DRAINING))
    with pytest.raises(UnavailableError):
        await read(kind, saying({"error": "no"}, 503, retry_after="3600"))


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_event_is_not_guessed_at(kind: Any) -> None:  # noqa: ANN401
    with pytest.raises(UnexpectedAnswerError):
        await read(kind, streaming({"seq": 1, "type": "text.delta"}))
    events, _ = await read(kind, streaming(frame(1, "of.a.later.version", new=1), ENDED))
    assert (events[0].type, events[0].data) == ("of.a.later.version", {"new": 1})


async def test_what_was_taken_back_is_not_in_the_text() -> None:
    taken = frame(3, "output.discarded", after=1)
    async with scripted(streaming(frame(1), frame(2), taken, frame(4), {**ENDED, "seq": 5})) as it:
        async with AsyncAgentRuntimeClient(it.url) as client:
            assert await client.events("run_1").text() == "1 4 "
        with AgentRuntimeClient(it.url) as plain:
            events = await asyncio.to_thread(list, plain.events("run_1"))
    assert isinstance(events[2], OutputDiscarded)
    assert isinstance(events[3], TextDelta)
