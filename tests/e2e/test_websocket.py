"""What a WebSocket client gets: answers, several at once, cancelled, resumed, rated."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from tests.e2e.server import Served, serving
from tests.e2e.talk import Talk, ends, of_type, talking, text_of
from tests.upstream import Exchange, FakeUpstream, faults
from tests.upstream.answers import chunk, event

ENDLESS = "delay:20 words:100000"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as served:
        yield served


@pytest.fixture
async def served(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Served]:
    async with serving(
        tmp_path, openai_base_url=upstream.base_url, openai_api_key="sk-test", idle_timeout_s=1
    ) as runtime:
        yield runtime


@pytest.fixture
async def talk(served: Served) -> AsyncIterator[Talk]:
    async with talking(served.url) as opened:
        yield opened


async def nothing_runs(served: Served) -> None:
    await served.until(lambda health: health["metrics"]["running"] == 0, "/v1/health")


async def test_who_connects_is_told_who_they_are(runtime: Served) -> None:
    async with talking(runtime.url, "user123?session_id=s-1", greeted=False) as talk:
        hello = await talk.hear()

    assert hello["message_type"] == "connected"
    assert (hello["data"]["user_id"], hello["data"]["session_id"]) == ("user123", "s-1")
    assert hello["data"]["connection_id"]


async def test_an_answer_comes_as_numbered_events_that_end_with_finish(runtime: Served) -> None:
    async with talking(runtime.url) as talk:
        await talk.say("chat_request", messages=[{"role": "user", "content": "Hi"}])
        accepted = await talk.hear()
        events = await talk.answer(accepted["data"]["request_id"])

    assert accepted["message_type"] == "request_accepted"
    assert [each["event_number"] for each in events] == list(range(1, len(events) + 1))
    assert events[0]["event_type"] == "start"
    assert events[-1]["event_type"] == "finish"
    assert "demo" in text_of(events)
    assert "source" not in events[0]


async def test_an_agent_remembers_the_connection_s_session(
    served: Served, upstream: FakeUpstream
) -> None:
    async with talking(served.url, "ann?session_id=s-1") as talk:
        for number, session in enumerate([{}, {}, {"session_id": "another"}]):
            await talk.ask("Hello", f"r-{number}", agent_id="assistant", **session)
            await talk.answer(f"r-{number}")

    sent = [len(asked.json["messages"]) for asked in upstream.requests]
    assert sent[1] == sent[0] + 2
    assert sent[2] == sent[0]
    runs = (await served.get("/v1/runs"))["data"]
    assert [run["owner_id"] for run in runs] == ["ann"] * 3
    assert len({run["session_id"] for run in runs}) == 2


async def test_options_are_those_of_a_chat_completion(talk: Talk) -> None:
    await talk.ask("words:9", "r-1", options={"max_tokens": 2})
    first = text_of(await talk.answer("r-1"))
    await talk.ask("words:9", "r-2", max_tokens=3)

    assert len(first.split()) == 2
    assert len(text_of(await talk.answer("r-2")).split()) == 3


async def test_requests_of_one_connection_are_answered_side_by_side_each_in_order(
    talk: Talk,
) -> None:
    for number in range(8):
        await talk.ask(f"delay:5 words:{10 + number}", f"r-{number}")
    heard = await talk.until(lambda frame: frame["data"].get("request_id") == "r-7")
    for number in range(8):
        if not any(ends(f"r-{number}")(frame) for frame in heard):
            heard += await talk.until(ends(f"r-{number}"))

    events = of_type(heard, "stream_event")
    order = [each["request_id"] for each in events if each["event_type"] == "text-delta"]
    assert order != sorted(order)
    for number in range(8):
        mine = [each for each in events if each["request_id"] == f"r-{number}"]
        assert [each["event_number"] for each in mine] == list(range(1, len(mine) + 1))
        words = [f"word{at}" for at in range(10 + number)]
        assert text_of(mine).split() == words


async def test_a_cancelled_request_stops_its_model_call_and_no_other(
    talk: Talk, upstream: FakeUpstream
) -> None:
    await talk.ask(ENDLESS, "endless")
    await talk.ask("delay:20 words:40", "other")
    await talk.until(lambda frame: frame["data"].get("event_number", 0) > 5)
    await talk.say("cancel", request_id="endless")
    heard = await talk.until(ends("endless"))

    end = heard[-1]["data"]
    assert end["status"] == "cancelled"
    assert not [each for each in of_type(heard, "stream_event") if each["event_type"] == "error"]
    async with asyncio.timeout(1):
        await upstream.requests[0].closed.wait()
    assert (await talk.answer("other"))[-1]["event_type"] == "finish"


async def test_cancelling_what_is_not_there_is_told(talk: Talk) -> None:
    await talk.say("cancel", request_id="r-9")
    told = await talk.hear()
    assert (told["message_type"], told["data"]["code"]) == ("error", "stream_not_found")


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_request_that_is_cancelled_in_the_same_breath_ends_all_the_same(
    served: Served, resumable: bool
) -> None:
    data = {"message": ENDLESS, "provider_id": "openai", "resumable": resumable}
    async with talking(served.url) as talk:
        # In one write, so that the cancel is heard before the request has begun.
        talk.socket.transport.write(
            b"".join(
                Frame(Opcode.TEXT, json.dumps(frame).encode()).serialize(mask=True)
                for frame in (
                    {"message_type": "chat_request", "request_id": "r-1", "data": data},
                    {"message_type": "cancel", "request_id": "r-1"},
                    {"message_type": "cancel", "request_id": "r-1"},
                )
            )
        )
        [end] = of_type(await talk.until(ends("r-1")), "stream_end")
        assert end["status"] == "cancelled"
        await nothing_runs(served)


async def test_a_ping_is_answered_with_what_it_brought(talk: Talk) -> None:
    await talk.say("ping", at=123)
    assert await talk.hear() == {"message_type": "pong", "data": {"at": 123}}


async def test_a_provider_that_dies_ends_its_request_and_leaves_the_connection_usable(
    talk: Talk, upstream: FakeUpstream
) -> None:
    upstream.script(faults.cut(after=2))
    await talk.ask("Hello", "r-1")
    events = await talk.answer("r-1")
    await talk.ask("Hello", "r-2")

    assert events[-1]["event_type"] == "error"
    assert events[-1]["event_data"]["code"] == "upstream_error"
    assert text_of(await talk.answer("r-2")).endswith("Hello")


async def test_a_refused_request_is_told_with_its_id(talk: Talk) -> None:
    await talk.ask("Hello", "r-1", agent_id="nobody")
    told = await talk.hear()

    assert told["message_type"] == "error"
    assert (told["data"]["request_id"], told["data"]["code"]) == ("r-1", "model_not_found")


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_leaving_closes_the_call_to_the_provider_within_a_second(
    served: Served, upstream: FakeUpstream, leave: str
) -> None:
    async with talking(served.url) as talk:
        await talk.ask(ENDLESS, "r-1")
        await talk.until(lambda frame: frame["data"].get("event_number", 0) > 3)
        if leave == "reset":
            talk.socket.transport.abort()
        else:
            await talk.socket.close()
        async with asyncio.timeout(1):
            await upstream.requests[0].closed.wait()

    await nothing_runs(served)
    runs = (await served.get("/v1/runs"))["data"]
    assert [run["status"] for run in runs] == ["cancelled"]


async def test_who_resumes_gets_exactly_what_is_missing(
    served: Served, upstream: FakeUpstream
) -> None:
    async with talking(served.url) as talk:
        await talk.ask("delay:10 words:60", "r-1", resumable=True)
        heard = await talk.until(lambda frame: frame["data"].get("event_number") == 12)
        talk.socket.transport.abort()
    async with talking(served.url) as talk:
        await talk.say("resume", request_id="r-1", last_event=12)
        rest = await talk.answer("r-1")
        await talk.say("resume", request_id="r-1", last_event=40)
        again = await talk.answer("r-1")

    numbers = [each["event_number"] for each in of_type(heard, "stream_event") + rest]
    assert numbers == list(range(1, len(numbers) + 1))
    whole = of_type(heard, "stream_event") + rest
    assert text_of(whole).split() == [f"word{at}" for at in range(60)]
    assert again == rest[28:]
    assert len(upstream.requests) == 1


async def test_a_later_reader_of_a_stream_takes_over_from_an_earlier_one(served: Served) -> None:
    async with talking(served.url) as first, talking(served.url) as second:
        await first.ask("delay:10 words:60", "r-1", resumable=True)
        await first.until(lambda frame: frame["data"].get("event_number") == 5)
        await second.say("resume", request_id="r-1", last_event=5)
        rest = await second.answer("r-1")
        await first.say("ping")
        left = await first.until(lambda frame: frame["message_type"] == "pong")

    assert [each["event_number"] for each in rest] == list(range(6, 6 + len(rest)))
    assert not of_type(left, "stream_end")


async def test_a_stream_that_nobody_comes_back_to_is_cancelled(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with serving(
        tmp_path, openai_base_url=upstream.base_url, openai_api_key="sk-t", stream_resume_s=0.3
    ) as served:
        async with talking(served.url) as talk:
            await talk.ask(ENDLESS, "r-1", resumable=True)
            await talk.until(lambda frame: frame["data"].get("event_number", 0) > 3)
        async with asyncio.timeout(3):
            await upstream.requests[0].closed.wait()
        async with talking(served.url) as talk:
            await talk.say("resume", request_id="r-1", last_event=3)
            assert (await talk.hear())["data"]["code"] == "stream_not_found"


async def test_who_asks_in_another_name_resumes_what_they_asked(served: Served) -> None:
    async with talking(served.url, "ann") as talk:
        options = {"provider_id": "openai", "metadata": {"user_id": "ben"}}
        await talk.ask("delay:20 words:20", "r-1", resumable=True, **options)
        await talk.until(lambda frame: frame["data"].get("event_number") == 3)
    async with talking(served.url, "ann") as talk:
        await talk.say("resume", request_id="r-1", last_event=3)
        events = await talk.answer("r-1")

    assert events[0]["event_number"] == 4
    assert events[-1]["event_type"] == "finish"


async def test_a_stream_is_resumed_by_its_owner_alone(served: Served) -> None:
    answers = []
    async with talking(served.url, "ann") as ann, talking(served.url, "ben") as ben:
        await ann.ask(ENDLESS, "r-1", resumable=True)
        await ann.until(lambda frame: frame["data"].get("event_number") == 3)
        for name in ("r-1", "r-2"):
            await ben.say("resume", request_id=name)
            told = await ben.hear()
            answers.append(json.dumps(told).replace(name, "R"))
        await ann.say("cancel", request_id="r-1")
        assert (await ann.until(ends("r-1")))[-1]["data"]["status"] == "cancelled"

    assert answers[0] == answers[1]


async def test_an_answer_is_rated_by_its_request_and_the_run_shows_it(talk: Talk) -> None:
    await talk.ask("Hello", "r-1")
    run = (await talk.answer("r-1"))[0]["event_data"]["run_id"]
    await talk.say("feedback", request_id="r-1", rating="thumbs_up", comment="Good.")

    told = await talk.hear()
    assert told["message_type"] == "feedback_ack"
    assert told["data"] == {"run_id": run, "rating": "up", "request_id": "r-1"}


async def test_an_id_that_is_used_again_means_the_later_run(talk: Talk) -> None:
    await talk.ask("One", "r-1")
    await talk.answer("r-1")
    await talk.ask("Two", "r-1")
    run = (await talk.answer("r-1"))[0]["event_data"]["run_id"]
    await talk.say("feedback", request_id="r-1", rating="up")

    assert (await talk.hear())["data"]["run_id"] == run


async def test_an_opinion_of_no_run_is_told_by_its_field(talk: Talk) -> None:
    await talk.say("feedback", rating="up", run_id="run_1")
    told = (await talk.hear())["data"]

    assert (told["code"], told["param"]) == ("run_not_found", "run_id")


async def test_an_opinion_of_nothing_is_told_what_it_lacks(talk: Talk) -> None:
    await talk.say("feedback", rating="up")
    told = (await talk.hear())["data"]

    assert (told["status"], told["param"]) == (400, "run_id")


async def test_a_later_opinion_takes_the_place_of_the_earlier_one(
    served: Served, talk: Talk
) -> None:
    await talk.ask("Hello", "r-1")
    run = (await talk.answer("r-1"))[0]["event_data"]["run_id"]
    for rating in (1, "down"):
        await talk.say("feedback", run_id=run, rating=rating, comment=f"{rating}")
        await talk.hear()

    kept = (await served.get(f"/v1/runs/{run}/feedback"))["data"]
    assert [(each["rating"], each["comment"]) for each in kept] == [("down", "down")]
    assert kept[0]["owner_id"] == "ann"


async def test_a_run_that_is_not_there_is_not_rated(talk: Talk) -> None:
    await talk.say("feedback", run_id="run_0", rating="up")
    assert (await talk.hear())["data"]["code"] == "run_not_found"


async def flood(exchange: Exchange) -> None:
    """200 MB, as fast as they are taken."""
    exchange.start()
    frame = event(chunk({"content": "x" * 10_000}))
    for _ in range(20_000):
        await exchange.write(frame)


async def test_a_slow_reader_holds_its_run_back_and_is_cut_off_in_time(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.script(flood)
    async with serving(
        tmp_path, openai_base_url=upstream.base_url, openai_api_key="sk-t", send_timeout_s=3
    ) as served:
        async with talking(served.url, max_queue=1) as talk:
            await talk.ask("Hello", "r-1")
            async with asyncio.timeout(20):
                await upstream.arrived.wait()
                await upstream.requests[0].closed.wait()
            await nothing_runs(served)
            talk.socket.transport.abort()
        run = (await served.get("/v1/runs"))["data"][0]

    assert run["status"] == "cancelled"
    assert run["usage"]["output_tokens"] * 4 < 20_000_000
