"""What must hold once the faults are over, whatever they were. Each check says what does not."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.drive import ENDS, ONCE, RESPONSE_ENDS, Load, Order
from tests.chaos.toolserver import ToolServer

Json = dict[str, Any]


async def broken(load: Load, tools: ToolServer) -> list[str]:
    """Everything that does not hold; asks the replicas, which have to be well again."""
    runs = {run["id"]: run for run in await _all(load, "/v1/runs")}
    by_errand = Counter(run["metadata"].get("errand") for run in runs.values())
    ids = {run["metadata"].get("errand"): id for id, run in runs.items()}
    found: list[str] = []
    for order in load.orders:
        errand = order.errand.id
        if by_errand[errand] != 1:
            found.append(f"{errand} was ordered once and is {by_errand[errand]} runs")
            continue
        id = ids[errand]
        run = await load.sure(f"/v1/runs/{id}")
        log = await _all(load, f"/v1/runs/{id}/events")
        told = await _response_events(load, order) if order.response_id else log
        calls = await _all(load, f"/v1/runs/{id}/tool_calls")
        each = [*_run(run, log), *_calls(order, calls, tools), *_seen(order, told)]
        found += [f"{errand} ({id}, {order.agent}): {problem}" for problem in each]
    return found


def _run(run: Json, log: list[Json]) -> Iterator[str]:
    """It has ended well, and its log tells all of it once."""
    if run["status"] != "completed":
        yield f"is {run['status']}: {run.get('error')}"
    if [event["seq"] for event in log] != list(range(1, len(log) + 1)):
        yield f"its log has gaps: {[event['seq'] for event in log]}"
    kinds = [event["type"] for event in log]
    if [kind for kind in kinds if kind in ENDS] != kinds[-1:]:
        yield f"its log does not end with its one end: {kinds}"
    if kinds[:1] != ["run.started"] or kinds.count("run.started") != 1:
        yield f"its log does not begin with its one beginning: {kinds}"
    if run.get("output") is not None and _text(log) != run["output"]:
        yield f"its log says {_text(log)!r}, its record {run['output']!r}"


def _text(log: list[Json]) -> str:
    """What counts of the answer."""
    kept: list[Json] = []
    for event in log:
        if event["type"] == "output.discarded":
            kept = [each for each in kept if each["seq"] <= event["after"]]
        elif event["type"] == "text.delta":
            kept.append(event)
    return "".join(event["text"] for event in kept)


def _calls(order: Order, calls: list[Json], tools: ToolServer) -> Iterator[str]:
    """Each was made once, counted where it was made; and what it gave is what the run knows."""
    for name, token in order.errand.calls:
        done, keys = tools.done[token], tools.keys.get(token, set())
        if name == ONCE and done != 1:
            yield f"{name} {token} was made {done} times"
        if name != ONCE and (not done or len(keys) != 1):
            yield f"{name} {token} was made {done} times under the keys {keys}"
    unfinished = [call for call in calls if call["status"] != "success"]
    if unfinished or len(calls) != len(order.errand.calls):
        yield f"its ledger has {len(calls)} calls: {calls}"


def _seen(order: Order, told: list[Json]) -> Iterator[str]:
    """Who followed it saw the log, over however many connections: no gap, nothing twice."""
    if order.events == told:
        return
    number = "sequence_number" if order.response_id else "seq"
    seen = [event[number] for event in order.events]
    if seen != (expected := [event[number] for event in told]):
        yield f"numbers seen over {order.connections} connections: {seen}, in the log: {expected}"
        return
    pairs = zip(order.events, told, strict=True)
    yield f"seen and in the log differ: {next((a, b) for a, b in pairs if a != b)}"


async def _response_events(load: Load, order: Order) -> list[Json]:
    again = Order(order.errand, order.agent, response_id=order.response_id)
    await load.read_response(again)
    final = again.events[-1]["response"]["output"]
    texts = [
        part["text"] for item in final if item["type"] == "message" for part in item["content"]
    ]
    if not texts or f"done-{order.errand.id}" not in texts[-1]:
        load.violations[f"{order.errand.id}: the response says {texts}"] += 1
    assert again.events[-1]["type"] in RESPONSE_ENDS
    return again.events


async def _all(load: Load, path: str) -> list[Json]:
    """Every page."""
    found: list[Json] = []
    after: dict[str, object] = {}
    while True:
        page = await load.sure(path, limit=100, **after)
        found += page["data"]
        if not page["has_more"]:
            return found
        after = {"after": page.get("next_cursor") or found[-1]["seq"]}


def intact(database: Path) -> str:
    """`ok`, as SQLite itself says it."""
    connection = sqlite3.connect(database)
    try:
        (said,) = connection.execute("PRAGMA integrity_check").fetchone()
    finally:
        connection.close()
    return str(said)
