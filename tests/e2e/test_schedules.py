"""Schedules over HTTP, with the scheduler of the runtime itself."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.schedules import run_id_of
from runtime.domain.repositories.durable import Ticket
from runtime.domain.value_objects.identity import LOCAL_ADMIN
from runtime.domain.value_objects.ids import ScheduleId
from tests.e2e.server import Json, Served, serving
from tests.postgres import fresh_database

SCHEDULES = "/v1/schedules"
DIGEST: Json = {"name": "digest", "model": "assistant", "input": "Sum up the day."}


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def create(runtime: Served, **fields: object) -> Json:
    body = {**DIGEST, **fields}
    if not fields.keys() & {"cron", "every_s"}:
        body["cron"] = "0 7 * * mon-fri"
    return await runtime.post(SCHEDULES, body, status=201)


async def refused(runtime: Served, method: str, path: str, body: object, status: int = 400) -> Json:
    response = await runtime.http.request(method, path, json=body)
    assert response.status_code == status, response.text
    found: Json = response.json()
    return found


async def make_due(runtime: Served, id: str, ago_s: float = 1) -> datetime:
    """As if its next tick were a moment ago."""
    at = datetime.now(UTC) - timedelta(seconds=ago_s)
    async with runtime.container.uow()(LOCAL_ADMIN.scope) as work:
        seen = await work.schedules.get(ScheduleId(id))
        await work.schedules.save(seen, replace(seen, next_at=at))
        await work.commit()
    return at


async def test_a_schedule_is_made_read_changed_and_deleted(runtime: Served) -> None:
    answer = await runtime.http.post(SCHEDULES, json={**DIGEST, "every_s": 3_600})
    made, etag = answer.json(), answer.headers["ETag"]
    path = answer.headers["Location"]

    assert path == f"{SCHEDULES}/{made['id']}"
    assert made == await runtime.get(path)
    assert (made["every_s"], made["cron"], made["enabled"]) == (3_600, None, True)
    assert made["input"] == "Sum up the day."
    first, second = (datetime.fromisoformat(each) for each in made["next_ticks"][:2])
    assert second - first == timedelta(hours=1)
    assert made["next_at"] == made["next_ticks"][0]

    body = {"cron": "@daily", "timezone": "Europe/Berlin", "options": {"temperature": 0.5}}
    changed = await runtime.http.patch(path, json=body, headers={"If-Match": etag})
    assert changed.json()["every_s"] is None
    assert changed.json()["timezone"] == "Europe/Berlin"
    assert changed.json()["options"] == {"temperature": 0.5}
    stale = await runtime.http.patch(path, json={"name": "x"}, headers={"If-Match": etag})
    assert stale.status_code == 412
    assert [each["id"] for each in (await runtime.get(SCHEDULES))["data"]] == [made["id"]]
    assert (await runtime.get(f"{SCHEDULES}?model=other"))["data"] == []
    assert (await runtime.get(f"{SCHEDULES}?enabled=false"))["data"] == []
    gone = await refused(runtime, "DELETE", path, None, 200)
    assert gone == {"id": made["id"], "deleted": True}
    await runtime.get(path, status=404)


async def test_messages_and_options_read_back_as_they_were_sent(runtime: Served) -> None:
    said = [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": [{"type": "text", "text": "Sum up the day."}]},
    ]
    options = {"max_tokens": 100, "stop": ["END"], "seed": 7}
    made = await create(
        runtime, input=said, options=options, metadata={"team": "a"}, session_id="digests"
    )

    assert (made["input"], made["options"]) == (said, options)
    assert (made["metadata"], made["session_id"]) == ({"team": "a"}, "digests")


REFUSALS: list[tuple[Json, str, str]] = [
    ({"cron": "61 * * * *"}, "invalid_cron", "in its minute"),
    ({"cron": "0 7 * *"}, "invalid_cron", "has 4 fields"),
    ({"cron": "@reboot"}, "invalid_cron", "@daily"),
    ({"cron": "0 0 30 2 *"}, "invalid_cron", "day"),
    ({"cron": "@daily", "timezone": "Mars/Base"}, "unknown_timezone", "Europe/Berlin"),
    ({"cron": "@daily", "every_s": 60}, "invalid_value", "not both"),
    ({"every_s": 60, "timezone": "UTC"}, "invalid_value", "cron"),
    ({"every_s": 5}, "invalid_request", "10"),
    ({"cron": "@daily", "input": []}, "invalid_request", "input"),
    ({"cron": "@daily", "input": "x" * 256_001}, "invalid_request", "256000"),
    ({"cron": "@daily", "max_backfill": 101}, "invalid_request", "100"),
    ({"cron": "@daily", "options": {"tools": []}, "model": "nobody"}, "model_not_found", ""),
    ({"cron": "@daily", "options": {"tool_choice": "auto"}}, "unsupported_parameter", "carry"),
    ({"cron": "@daily", "session_id": "ü"}, "invalid_value", "session"),
    ({"cron": "@daily", "colour": "red"}, "invalid_request", "colour"),
]


async def test_what_makes_no_sense_is_refused_by_name(runtime: Served) -> None:
    for fields, code, told in REFUSALS:
        status = 404 if code == "model_not_found" else 400
        error = await refused(runtime, "POST", SCHEDULES, {**DIGEST, **fields}, status)

        assert error["details"]["code"] == code
        assert told in error["message"]
    assert (await runtime.get(SCHEDULES))["data"] == []


async def test_a_tick_begins_a_run_that_comes_to_its_end(runtime: Served) -> None:
    made = await create(runtime)
    tick = await make_due(runtime, made["id"])

    path = f"{SCHEDULES}/{made['id']}/runs"
    found = await runtime.until(
        lambda page: bool(page["data"]) and page["data"][0]["run_status"] == "completed", path
    )
    (kept,) = found["data"]
    assert datetime.fromisoformat(kept["tick"]) == tick
    run = await runtime.get(f"/v1/runs/{kept['run_id']}")
    assert run["origin"] == {"kind": "schedule", "id": made["id"], "checkpoint_id": None}
    assert "Sum up the day." in run["output"]
    shown = await runtime.get(f"{SCHEDULES}/{made['id']}")
    assert (shown["last_run_id"], shown["last_error"]) == (kept["run_id"], None)
    assert shown["next_at"] == shown["next_ticks"][0]


async def test_a_run_out_of_turn_ends_too(runtime: Served) -> None:
    made = await create(runtime)
    begun = await runtime.post(f"{SCHEDULES}/{made['id']}/run", status=202)

    assert (begun["manual"], begun["status"]) == (True, "started")
    await runtime.until(lambda run: run["status"] == "completed", f"/v1/runs/{begun['run_id']}")
    assert (await runtime.get(f"{SCHEDULES}/{made['id']}"))["next_at"] == made["next_at"]


async def test_a_run_that_was_committed_and_not_dispatched_is_begun(
    runtime: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the two."""
    lost = asyncio.Event()
    scheduler = runtime.container.scheduler()

    class Deaf:
        async def dispatch(self, run: DurableRun | Ticket) -> None:
            lost.set()

    monkeypatch.setattr(scheduler, "_dispatcher", Deaf())
    made = await create(runtime)
    tick = await make_due(runtime, made["id"])
    id = run_id_of(ScheduleId(made["id"]), tick)
    await asyncio.wait_for(lost.wait(), 5)

    await runtime.until(lambda run: run["status"] == "completed", f"/v1/runs/{id}")


async def test_a_schedule_fires_once_with_two_replicas(tmp_path: Path) -> None:
    with fresh_database() as url:
        async with (
            serving(tmp_path / "one", database_url=url, secret_key="x" * 32) as one,
            serving(tmp_path / "two", database_url=url, secret_key="x" * 32) as two,
        ):
            made = [await create(one) for _ in range(10)]
            await asyncio.gather(*(make_due(two, each["id"]) for each in made))
            for each in made:
                found: dict[str, Any] = await one.until(
                    lambda page: (
                        bool(page["data"]) and page["data"][0]["run_status"] == "completed"
                    ),
                    f"{SCHEDULES}/{each['id']}/runs",
                )
                assert len(found["data"]) == 1
            runs = await two.get("/v1/runs?limit=200")
            assert len(runs["data"]) == len(made)
