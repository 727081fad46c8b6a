"""Responses in the background: they go on without their caller, and outlive more than that."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response

from tests.e2e.process import Process, process
from tests.e2e.server import Served, serving
from tests.postgres import fresh_database
from tests.upstream import FakeUpstream

SLOW = "delay:20 words:40"
ENDLESS = "delay:20 words:100000"


@dataclass
class Pair:
    """Two replicas on one database; with one process, both are the same."""

    first: Served
    second: Served
    upstream: FakeUpstream


@pytest.fixture(params=["sqlite", "postgres"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as opened:
        upstream = await opened.enter_async_context(FakeUpstream())
        asked: Any = {"openai_base_url": upstream.base_url, "openai_api_key": "sk-test"}
        if request.param == "sqlite":
            only = await opened.enter_async_context(serving(tmp_path, **asked))
            yield Pair(only, only, upstream)
            return
        asked["database_url"] = opened.enter_context(fresh_database())
        asked["secret_key"] = "a-key-that-both-replicas-have"
        first = await opened.enter_async_context(serving(tmp_path / "a", **asked))
        second = await opened.enter_async_context(serving(tmp_path / "b", **asked))
        yield Pair(first, second, upstream)


GOING_ON = ("queued", "in_progress")


async def begin(client: AsyncOpenAI, text: str = SLOW, **options: Any) -> Response:  # noqa: ANN401
    begun: Response = await client.responses.create(
        model="assistant", input=text, background=True, **options
    )
    assert begun.status == "queued"
    return begun


async def ended(client: AsyncOpenAI, id: str) -> Response:
    async with asyncio.timeout(10):
        while (found := await client.responses.retrieve(id)).status in GOING_ON:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def events(client: AsyncOpenAI, id: str, after: int | None = None) -> list[Any]:
    given: Any = {} if after is None else {"starting_after": after}
    async with asyncio.timeout(10):
        stream = await client.responses.retrieve(id, stream=True, **given)
        return [event async for event in stream]


def text_of(found: list[Any]) -> str:
    return "".join(e.delta for e in found if e.type == "response.output_text.delta")


async def test_it_is_there_before_the_answer_and_goes_on_by_itself(pair: Pair) -> None:
    begun = await begin(pair.first.openai)
    assert begun.background
    assert begun.output == []
    early = await pair.second.openai.responses.retrieve(begun.id)
    assert early.status in GOING_ON

    done = await ended(pair.second.openai, begun.id)
    assert done.status == "completed"
    assert done.output_text.endswith("word39")
    assert done.usage


async def test_it_is_read_from_any_event_on_at_any_replica(pair: Pair) -> None:
    stream = await pair.first.openai.responses.create(
        model="assistant", input=SLOW, background=True, stream=True
    )
    first = [event async for event in stream]
    assert [event.sequence_number for event in first] == list(range(len(first)))
    assert first[-1].type == "response.completed"

    for replica in (pair.first, pair.second):
        assert await events(replica.openai, first[0].response.id) == first  # type: ignore[union-attr]
        for after in (0, 2, 10, len(first) - 2):
            rest = await events(replica.openai, first[0].response.id, after)  # type: ignore[union-attr]
            assert rest == first[after + 1 :]


async def test_a_reader_who_comes_back_meanwhile_misses_nothing(pair: Pair) -> None:
    stream = await pair.first.openai.responses.create(
        model="assistant", input=SLOW, background=True, stream=True
    )
    seen: list[Any] = []
    async for event in stream:
        seen.append(event)
        if len(seen) == 12:
            break
    await stream.close()
    id, last = seen[0].response.id, seen[-1].sequence_number
    found = await asyncio.gather(
        *(events(replica.openai, id, last) for replica in (pair.first, pair.second))
    )

    for rest in found:
        assert [e.sequence_number for e in seen + rest] == list(range(len(seen) + len(rest)))
        assert text_of(seen + rest) == rest[-1].response.output_text
        assert rest[-1].type == "response.completed"


async def test_it_is_cancelled_at_any_replica(pair: Pair) -> None:
    begun = await begin(pair.first.openai, ENDLESS)
    reading = asyncio.create_task(events(pair.second.openai, begun.id))
    await pair.upstream.arrived.wait()
    await asyncio.sleep(0.2)
    cancelled = await pair.second.openai.responses.cancel(begun.id)

    assert cancelled.status == "cancelled"
    async with asyncio.timeout(3):
        await pair.upstream.requests[-1].closed.wait()
    for replica in (pair.first, pair.second):
        again = await replica.openai.responses.cancel(begun.id)
        assert again == await replica.openai.responses.retrieve(begun.id) == cancelled
    told = await reading
    assert told[-1].response.status == "cancelled"
    assert text_of(told) == cancelled.output_text
    run = await pair.first.until(lambda found: bool(found["data"]), "/v1/runs")
    assert run["data"][0]["status"] == "cancelled"


async def test_it_is_deleted_once_it_has_ended(pair: Pair) -> None:
    begun = await begin(pair.first.openai, ENDLESS)
    with pytest.raises(openai.ConflictError) as refused:
        await pair.second.openai.responses.delete(begun.id)
    assert refused.value.code == "response_in_progress"
    await pair.second.openai.responses.cancel(begun.id)
    await pair.second.openai.responses.delete(begun.id)

    for replica in (pair.first, pair.second):
        with pytest.raises(openai.NotFoundError):
            await replica.openai.responses.retrieve(begun.id)
        with pytest.raises(openai.NotFoundError):
            await replica.openai.responses.retrieve(begun.id, stream=True)
    path = f"/v1/runs/{begun.id.replace('resp_', 'run_')}"
    run = await pair.first.until(lambda found: found["status"] == "cancelled", path)
    assert run["output"] is None


async def test_it_is_followed_on_when_it_has_ended(pair: Pair) -> None:
    begun = await begin(pair.first.openai)
    with pytest.raises(openai.ConflictError, match="in progress"):
        await pair.second.openai.responses.create(
            model="assistant", input="Go on", previous_response_id=begun.id
        )
    await ended(pair.first.openai, begun.id)
    after = await pair.second.openai.responses.create(
        model="assistant", input="Go on", previous_response_id=begun.id
    )

    assert after.output_text == "You said: Go on"


async def test_a_failure_is_told_by_the_response(pair: Pair) -> None:
    begun = await begin(pair.first.openai, "fault:cut")
    found = await ended(pair.second.openai, begun.id)

    assert (found.status, found.output_text) == ("failed", "One two ")
    assert found.error
    assert found.error.code == "server_error"
    assert (await events(pair.second.openai, begun.id))[-1].type == "response.failed"


async def test_the_synchronous_client_works_too(pair: Pair) -> None:
    def ask() -> tuple[str, list[int]]:
        with OpenAI(base_url=f"{pair.first.url}/v1", api_key="local") as client:
            begun = client.responses.create(model="assistant", input="Hello", background=True)
            with client.responses.retrieve(begun.id, stream=True) as stream:
                numbers = [event.sequence_number for event in stream]
            return client.responses.retrieve(begun.id).output_text, numbers

    text, numbers = await asyncio.to_thread(ask)
    assert text == "You said: Hello"
    assert numbers == list(range(len(numbers)))


async def test_one_that_is_not_in_the_background_is_neither_cancelled_nor_streamed_again(
    pair: Pair,
) -> None:
    answer = await pair.first.openai.responses.create(model="assistant", input="Hello")
    for again in (
        pair.first.openai.responses.cancel(answer.id),
        pair.first.openai.responses.retrieve(answer.id, stream=True),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await again
        assert refused.value.code == "not_in_background"


async def test_a_refusal_at_the_start_leaves_nothing(pair: Pair) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        await pair.first.openai.responses.create(model="nobody", input="Hi", background=True)
    with pytest.raises(openai.BadRequestError, match="stored"):
        await pair.first.openai.responses.create(
            model="assistant", input="Hi", background=True, store=False
        )


def variables(upstream: FakeUpstream, **more: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-test", **more}


def client_of(runtime: Process) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{runtime.url}/v1", api_key="local", max_retries=0)


WHOLE = " ".join(f"word{number}" for number in range(40))


async def under_way(client: AsyncOpenAI, id: str) -> list[Any]:
    """The events up to the first text."""
    found = []
    stream: Any = await client.responses.retrieve(id, stream=True)
    async for event in stream:
        found.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    return found


async def test_a_stop_lets_it_finish_within_the_grace_period(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        settings = variables(upstream, RUNTIME_GRACE_S="10")
        async with process(tmp_path, **settings) as runtime, client_of(runtime) as client:
            begun = await begin(client)
            await under_way(client, begun.id)
            runtime.signal()
            assert await runtime.ended() == 0
        async with process(tmp_path, **settings) as runtime, client_of(runtime) as client:
            found = await client.responses.retrieve(begun.id)

    assert found.status == "completed"
    assert found.output_text.strip() == WHOLE


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
async def test_what_a_stopped_process_was_at_goes_on_in_the_next(
    tmp_path: Path, stop: signal.Signals
) -> None:
    """Its model says the same again: whoever reads on from where they were notices nothing."""
    async with FakeUpstream() as upstream:
        settings = variables(upstream, RUNTIME_GRACE_S="0")
        async with process(tmp_path, **settings) as runtime, client_of(runtime) as client:
            begun = await begin(client, "delay:50 words:40")
            first = await under_way(client, begun.id)
            runtime.signal(stop)
            await runtime.ended()
        async with process(tmp_path, **settings) as runtime, client_of(runtime) as client:
            rest = await events(client, begun.id, after=first[-1].sequence_number)
            found = await client.responses.retrieve(begun.id)

    told = [*first, *rest]
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert text_of(told).strip() == found.output_text.strip() == WHOLE
    assert (found.status, told[-1].type) == ("completed", "response.completed")
