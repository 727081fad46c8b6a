"""Runs that outlive their callers, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream, faults

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = "delay:30 words:40"
WHOLE = " ".join(f"word{number}" for number in range(40))
FINAL = ("completed", "failed", "cancelled")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream
) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("runs")
    settings: Json = {"openai_base_url": upstream.base_url, "openai_api_key": "sk-runs"}
    async with AsyncExitStack() as opened:
        yield await opened.enter_async_context(serving(folder, model_attempts=1, **settings))


JSON = "application/json"


async def order(served: Served, text: str = "Hi", **fields: Any) -> Json:  # noqa: ANN401 - JSON
    return await served.post(
        "/v1/runs", {"model": "assistant", "input": text, **fields}, status=202
    )


async def ended(served: Served, id: str) -> Json:
    return await served.until(lambda run: run["status"] in FINAL, f"/v1/runs/{id}")


async def streamed(
    served: Served,
    id: str,
    headers: Json | None = None,
    **query: Any,  # noqa: ANN401
) -> list[Json]:
    """Its events, as (id, event, data) were sent."""
    found: list[Json] = []
    async with served.http.stream(
        "GET", f"/v1/runs/{id}/events", params=query, headers=headers, timeout=20
    ) as answer:
        if answer.status_code == 204:
            return []
        assert answer.status_code == 200
        frame: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name:
                frame[name] = value
            elif frame:
                found.append({**json.loads(frame["data"]), "id": frame["id"], "is": frame["event"]})
                frame = {}
    return found


async def under_way(served: Served, id: str) -> None:
    headers = {"accept": "application/json"}
    async with asyncio.timeout(10):
        while True:
            page = await served.http.get(f"/v1/runs/{id}/events", headers=headers)
            if any(each["type"] == "text.delta" for each in page.json()["data"]):
                return
            await asyncio.sleep(0.02)


def text_of(events: list[Json]) -> str:
    return "".join(each["text"] for each in events if each["type"] == "text.delta").strip()


async def test_an_order_is_answered_at_once_and_carried_out(served: Served) -> None:
    answer = await served.http.post("/v1/runs", json={"model": "assistant", "input": "Good day"})
    run = answer.json()

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/runs/{run['id']}"
    assert (run["status"], run["durable"], run["attempt"]) == ("queued", True, 0)
    done = await ended(served, run["id"])
    assert done["status"] == "completed"
    assert done["output"].strip() == "You said: Good day"
    assert (done["attempt"], done["finish_reason"]) == (1, "stop")
    assert done["usage"]["output_tokens"] > 0
    assert [step["name"] for step in done["steps"]] == ["answer"]
    assert done["created_at"] <= done["started_at"] <= done["ended_at"]


async def test_its_events_are_numbered_and_end_with_one_that_says_how(served: Served) -> None:
    run = await order(served, SLOW)
    events = await streamed(served, run["id"])

    assert [each["seq"] for each in events] == list(range(1, len(events) + 1))
    assert all((str(each["seq"]), each["type"]) == (each["id"], each["is"]) for each in events)
    assert (events[0]["type"], events[-1]["type"]) == ("run.started", "run.completed")
    assert text_of(events) == WHOLE


async def test_a_reader_goes_on_behind_what_it_has(served: Served) -> None:
    run = await order(served, SLOW)
    whole = await streamed(served, run["id"])
    for after in (0, 1, len(whole) // 2, len(whole) - 1, len(whole), len(whole) + 9):
        assert await streamed(served, run["id"], after=after) == whole[after:]
        last = {"Last-Event-ID": str(after)}
        assert await streamed(served, run["id"], last) == whole[after:]


async def test_its_steps_are_seen_while_it_goes_on_and_afterwards(served: Served) -> None:
    run = await order(served, SLOW)
    path = f"/v1/runs/{run['id']}/steps"
    going_on = await served.until(lambda found: bool(found["data"]), path)
    await ended(served, run["id"])
    (step,) = (await served.get(path))["data"]

    assert [(each["status"], each["duration_ms"]) for each in going_on["data"]] == [
        ("running", None)
    ]
    assert (step["id"], step["name"]) == (going_on["data"][0]["id"], "answer")
    assert (step["status"], step["attempt"], step["attempts"]) == ("success", 1, 1)
    assert step["duration_ms"] > 0


async def test_a_step_that_its_run_s_end_cut_off_has_failed(served: Served) -> None:
    run = await order(served, "delay:50 words:400")
    await under_way(served, run["id"])
    await served.post(f"/v1/runs/{run['id']}/cancel")

    (step,) = (await served.get(f"/v1/runs/{run['id']}/steps"))["data"]
    assert step["status"] == "error"


async def test_steps_of_a_run_whose_caller_waited_are_in_its_record(served: Served) -> None:
    await served.ask("assistant", "I wait.")
    (run,) = (await served.get("/v1/runs?limit=1"))["data"]

    (step,) = (await served.get(f"/v1/runs/{run['id']}/steps"))["data"]
    assert (step["id"], step["name"], step["status"]) == (None, "answer", "success")


async def test_a_page_of_the_log_can_be_read_as_json(served: Served) -> None:
    run = await order(served)
    whole = await streamed(served, run["id"])
    as_json = {"accept": "application/json"}
    path = f"/v1/runs/{run['id']}/events"
    first = (await served.http.get(path, params={"limit": 2}, headers=as_json)).json()
    rest = (await served.http.get(path, params={"after": 2}, headers=as_json)).json()

    assert (first["has_more"], rest["has_more"]) == (True, False)
    pages = [*first["data"], *rest["data"]]
    assert [each["seq"] for each in pages] == [each["seq"] for each in whole]
    assert pages[-1]["type"] == "run.completed"


async def test_many_that_end_at_once_leave_room_for_what_is_being_written(served: Served) -> None:
    """Each held one of the database's few connections and waited for another."""
    async with asyncio.timeout(20):
        for _ in range(3):
            runs = await asyncio.gather(*(order(served, "words:3") for _ in range(30)))
            done = await asyncio.gather(*(ended(served, run["id"]) for run in runs))
            assert {run["status"] for run in done} == {"completed"}
            assert {run["attempt"] for run in done} == {1}


async def test_behind_the_end_there_is_nothing_to_come_back_for(served: Served) -> None:
    """An `EventSource` connects again after every end, until it is told this."""
    run = await order(served)
    last = (await streamed(served, run["id"]))[-1]["id"]
    path = f"/v1/runs/{run['id']}/events"

    for number in (last, "1000000"):
        answer = await served.http.get(path, headers={"Last-Event-ID": number})
        assert (answer.status_code, answer.content) == (204, b"")
    page = await served.http.get(path, params={"after": last}, headers={"accept": JSON})
    assert page.json()["data"] == []


async def test_the_headers_of_a_log_are_there_without_its_end(served: Served) -> None:
    run = await order(served, "delay:50 words:400")
    async with asyncio.timeout(5):
        answer = await served.http.head(f"/v1/runs/{run['id']}/events")
        # On the same connection.
        await served.post(f"/v1/runs/{run['id']}/cancel")

    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 20])
async def test_a_last_event_that_is_no_number_is_refused(served: Served, last: str) -> None:
    run = await order(served)
    path = f"/v1/runs/{run['id']}/events"
    answer = await served.http.get(path, headers={"Last-Event-ID": last})

    assert answer.status_code == 400
    assert "Last-Event-ID" in answer.text


async def test_a_cancelled_run_stops_its_model_and_keeps_what_it_said(
    served: Served, upstream: FakeUpstream
) -> None:
    run = await order(served, "delay:50 words:400")
    await under_way(served, run["id"])
    cancelled = await served.post(f"/v1/runs/{run['id']}/cancel")
    async with asyncio.timeout(2):
        await upstream.requests[-1].closed.wait()
    events = await streamed(served, run["id"])

    assert (cancelled["status"], cancelled["durable"]) == ("cancelled", True)
    assert events[-1]["type"] == "run.cancelled"
    assert text_of(events).startswith("word0 word1")
    assert cancelled["output"].strip() == text_of(events)
    again = await served.post(f"/v1/runs/{run['id']}/cancel")
    assert again["ended_at"] == cancelled["ended_at"]


async def test_a_run_that_waits_for_its_time_can_be_cancelled(served: Served) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    run = await order(served, not_before=later)
    await asyncio.sleep(0.6)
    assert (await served.get(f"/v1/runs/{run['id']}"))["status"] == "queued"
    cancelled = await served.post(f"/v1/runs/{run['id']}/cancel")

    assert (cancelled["status"], cancelled["started_at"], cancelled["attempt"])[0] == "cancelled"
    assert [each["type"] for each in await streamed(served, run["id"])] == ["run.cancelled"]


async def test_a_deadline_ends_what_takes_too_long(served: Served) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    run = await order(served, "delay:100 words:1000", deadline=soon)
    done = await ended(served, run["id"])

    assert (done["status"], done["error"]["code"]) == ("failed", "deadline_exceeded")
    past = {"deadline": "2001-01-01T00:00:00Z"}
    refused = await served.post(
        "/v1/runs", {"model": "assistant", "input": "Hi", **past}, status=400
    )
    assert "deadline" in refused["message"]


async def test_a_failure_is_told_by_the_run_and_by_its_log(
    served: Served, upstream: FakeUpstream
) -> None:
    upstream.script(faults.status(400))
    run = await order(served)
    done = await ended(served, run["id"])
    events = await streamed(served, run["id"])

    assert (done["status"], events[-1]["type"]) == ("failed", "run.failed")
    assert done["error"]["code"] == done["error_code"] == events[-1]["code"]
    assert done["error"]["message"] == events[-1]["message"]


async def test_an_ended_run_is_made_again_as_a_new_one(served: Served) -> None:
    first = await order(served, metadata={"ticket": "T-1"})
    await ended(served, first["id"])
    second = await served.post(f"/v1/runs/{first['id']}/retry", status=202)
    done = await ended(served, second["id"])

    assert done["id"] != first["id"]
    assert done["origin"] == {"kind": "retry", "id": first["id"], "checkpoint_id": None}
    assert (done["status"], done["metadata"]) == ("completed", {"ticket": "T-1"})


async def test_only_what_has_ended_is_made_again(served: Served) -> None:
    run = await order(served, "delay:100 words:100")
    refused = await served.post(f"/v1/runs/{run['id']}/retry", status=409)
    await served.post(f"/v1/runs/{run['id']}/cancel")

    assert refused["details"]["code"] == "run_not_ended"


async def test_a_run_whose_caller_waited_has_no_log(served: Served) -> None:
    await served.ask("assistant", "I wait.")
    (run,) = (await served.get("/v1/runs?limit=1"))["data"]
    refused = await served.get(f"/v1/runs/{run['id']}/events", status=409)

    assert (run["durable"], run["attempt"]) == (False, 1)
    assert refused["details"]["code"] == "run_not_durable"
    for path in ("cancel", "retry"):
        await served.post(f"/v1/runs/{run['id']}/{path}", status=409)


async def test_all_runs_are_in_one_list_newest_first(served: Served) -> None:
    await served.ask("assistant", "One.")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    waiting = await order(served, not_before=later)
    done = await order(served)
    await ended(served, done["id"])
    listed = (await served.get("/v1/runs?limit=3"))["data"]

    assert [run["id"] for run in listed][:2] == [done["id"], waiting["id"]]
    assert [run["durable"] for run in listed] == [True, True, False]
    queued = (await served.get("/v1/runs?status=queued"))["data"]
    assert waiting["id"] in [run["id"] for run in queued]
    seen: list[str] = []
    path = "/v1/runs?limit=2"
    page = await served.get(path)
    while True:
        seen += [run["id"] for run in page["data"]]
        if not page["next_cursor"]:
            break
        page = await served.get(f"{path}&after={page['next_cursor']}")
    assert len(seen) == len(set(seen))
    await served.post(f"/v1/runs/{waiting['id']}/cancel")


async def test_the_same_order_under_one_key_is_taken_once(served: Served) -> None:
    body = {"model": "assistant", "input": "Once."}
    headers = {"Idempotency-Key": "order-1"}
    answers = await asyncio.gather(
        *(served.http.post("/v1/runs", json=body, headers=headers) for _ in range(5))
    )

    taken = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(taken) == 1


async def test_a_turn_of_a_conversation_is_remembered(served: Served) -> None:
    first = await order(served, "My name is Ann.", session_id="talk")
    await ended(served, first["id"])
    answer = await served.ask(
        "assistant", "Who am I?", extra_body={"metadata": {"session_id": "talk"}}
    )
    (session,) = [
        each
        for each in (await served.get("/v1/runs?session_id=talk"))["data"]
        if each["id"] == first["id"]
    ]

    assert session["session_id"] == "talk"
    assert answer


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"priority": 101}, "priority"),
        ({"not_before": "tomorrow"}, "not_before"),
        ({"not_before": "2026-01-01T00:00:00"}, "not_before"),
        ({"not_before": "0001-01-01T00:00:00Z"}, "not_before"),
        ({"session_id": ""}, "session_id"),
        ({"webhook": {"url": "file:///etc/passwd"}}, "webhook"),
        ({"webhook": "http://169.254.169.254/"}, "169.254"),
        ({"webhook": {"url": "https://example.com", "secret": "short"}}, "secret"),
        ({"unknown": 1}, "unknown"),
        ({"temperature": 9}, "temperature"),
    ],
)
async def test_a_wrong_order_is_refused_by_name(served: Served, fields: Json, named: str) -> None:
    body = {"model": "assistant", "input": "Hi", **fields}
    answer = await served.http.post("/v1/runs", json=body)

    assert answer.status_code in (400, 403)
    assert named in answer.text


async def test_an_unknown_agent_or_run_is_not_found(served: Served) -> None:
    await served.post("/v1/runs", {"model": "nobody", "input": "Hi"}, status=404)
    for path in ("", "/events", "/steps"):
        await served.get(f"/v1/runs/run_0{path}", status=404)
    for path in ("cancel", "retry"):
        await served.post(f"/v1/runs/run_0/{path}", status=404)


async def test_names_of_fields_may_be_the_short_ones(served: Served) -> None:
    body = {"agent": "assistant", "input": "Hi", "session": "short"}
    run = await served.post("/v1/runs", body, status=202)

    assert run["session_id"] == "short"
    await ended(served, run["id"])


async def test_more_than_may_wait_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, max_queued_runs_per_user=2) as served:
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        for _ in range(2):
            await order(served, not_before=later)
        answer = await served.http.post(
            "/v1/runs", json={"model": "assistant", "input": "Hi", "not_before": later}
        )

    assert answer.status_code == 429
    assert "retry-after" in answer.headers
