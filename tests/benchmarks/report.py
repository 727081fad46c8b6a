"""`docs/performance.md`: a hand-written introduction, then what was measured."""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import durable
from tests.benchmarks.encoders import Cost
from tests.benchmarks.figures import (
    Figure,
    answers,
    cpu_ms,
    cpu_us,
    first_token_p50,
    first_token_p95,
    median_of,
    of,
    ratio,
    three,
    three_to_one,
    times,
    tokens,
)
from tests.benchmarks.goals import ABSENT, GOALS
from tests.benchmarks.suite import Measured, Record

_LIBRARIES = ("uvicorn", "uvloop", "fastapi", "langgraph", "langchain-openai", "openai", "aiohttp")


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    figure: Figure
    digits: int = 1


TABLES: Sequence[tuple[str, Sequence[Column]]] = (
    (
        "Not streaming, 32 connections",
        (
            Column("requests/s", of("whole", answers), 0),
            Column("p50 ms", of("whole", lambda sample: sample.result.latency_p50_ms)),
            Column("p95 ms", of("whole", lambda sample: sample.result.latency_p95_ms)),
            Column("CPU ms/request", of("whole", cpu_ms), 2),
        ),
    ),
    (
        "Time to the first token in ms, by streams at once",
        (
            Column("1, p50", of("streams-1", first_token_p50)),
            Column("1, p95", of("streams-1", first_token_p95)),
            Column("50, p50", of("streams-50", first_token_p50)),
            Column("50, p95", of("streams-50", first_token_p95)),
            Column("50 paced, p50", of("paced-50", first_token_p50)),
            Column("200, p50", of("streams-200", first_token_p50), 0),
            Column("500, p50", of("streams-500", first_token_p50), 0),
        ),
    ),
    (
        "Chunks/s, by streams of 64 tokens at once",
        (
            Column("1", of("streams-1", tokens), 0),
            Column("50", of("streams-50", tokens), 0),
            Column("200", of("streams-200", tokens), 0),
            Column("500", of("streams-500", tokens), 0),
        ),
    ),
    (
        "CPU of streaming 64 tokens, 50 streams at once",
        (
            Column("ms/stream", of("streams-50", cpu_ms), 2),
            Column("µs/chunk", of("streams-50", cpu_us)),
            Column("paced: ms/stream", of("paced-50", cpu_ms), 2),
            Column("paced: µs/chunk", of("paced-50", cpu_us)),
        ),
    ),
    (
        "The streaming doors: an agent by server-sent events (SSE) and WebSocket",
        (
            Column("50 streams, SSE: chunks/s", of("sse-50", tokens), 0),
            Column("CPU ms/stream", of("sse-50", cpu_ms), 2),
            Column("WebSocket: chunks/s", of("ws-50", tokens), 0),
            Column("CPU ms/stream", of("ws-50", cpu_ms), 2),
            Column("500 streams, SSE: chunks/s", of("sse-500", tokens), 0),
            Column("CPU ms/stream", of("sse-500", cpu_ms), 2),
            Column("WebSocket: chunks/s", of("ws-500", tokens), 0),
            Column("CPU ms/stream", of("ws-500", cpu_ms), 2),
        ),
    ),
    (
        "The streaming doors: three models, 48 answers at once",
        (
            Column("three requests, CPU ms", three(of("one-full", cpu_ms)), 2),
            Column("`interleaved`, CPU ms", of("three-full", cpu_ms), 2),
            Column("ratio", three_to_one("full"), 2),
            Column("paced: three requests, CPU ms", three(of("one-paced", cpu_ms)), 2),
            Column("`interleaved`, CPU ms", of("three-paced", cpu_ms), 2),
            Column("ratio", three_to_one("paced"), 2),
        ),
    ),
    (
        "An agent with tools",
        (
            Column("requests/s", of("tools", answers), 0),
            Column("CPU ms/request", of("tools", cpu_ms), 2),
            Column("chunks/s, 50 streams", of("tools-streams", tokens), 0),
            Column("CPU ms/stream", of("tools-streams", cpu_ms), 2),
        ),
    ),
    (
        "A turn of a session",
        (
            Column("requests/s", of("session", answers), 0),
            Column("CPU ms/request", of("session", cpu_ms), 2),
            Column("CPU ÷ without one", times("session", "whole"), 2),
            Column("of 500 messages: CPU ms/request", of("long-session", cpu_ms), 2),
            Column("CPU ÷ without one", times("long-session", "whole"), 2),
        ),
    ),
    (
        "The process",
        (
            Column("first start s", lambda record: record.first_start_s or None, 2),
            Column("start s", lambda record: median_of(record.starts_s), 2),
            Column("idle MB", lambda record: median_of(record.idle_mb), 0),
            Column("peak MB", lambda record: median_of(record.peak_mb), 0),
            Column("KB/open stream", lambda record: record.kb_per_stream or None, 0),
            Column("errors", lambda record: record.errors, 0),
        ),
    ),
)


DURABLE: Sequence[tuple[str, Callable[[durable.Figures], float | None], int]] = (
    ("interactive: CPU ms/run", lambda one: median_of(one.interactive_cpu_ms), 1),
    ("durable: CPU ms/run", lambda one: median_of(one.durable_cpu_ms), 1),
    ("ratio", lambda one: one.times_interactive, 2),
    ("append: µs/event", lambda one: median_of(one.append_us), 0),
    ("CPU µs/event", lambda one: one.append_cpu_us, 0),
    ("word to reader, p50 ms", lambda one: median_of(one.news_ms), 1),
    ("by another process", lambda one: median_of(one.other_news_ms), 1),
    ("cancel to call, p50 ms", lambda one: median_of(one.cancel_ms), 1),
    ("by another process", lambda one: median_of(one.other_cancel_ms), 1),
    ("picked up after s", lambda one: median_of(one.pick_up_s), 2),
    ("idle CPU %", lambda one: one.idle_percent, 1),
)


COMPARED: Sequence[tuple[str, Figure, Figure | None]] = (
    ("requests/s", of("whole", answers), None),
    ("CPU/request", of("whole", cpu_ms), None),
    ("first token, 1 stream", of("streams-1", first_token_p50), None),
    ("chunks/s, 50 streams", of("streams-50", tokens), None),
    ("CPU/stream, 50 streams", of("streams-50", cpu_ms), None),
    ("CPU/stream, 50 paced streams", of("paced-50", cpu_ms), None),
    ("with tools: requests/s", of("tools", answers), of("whole", answers)),
    ("with tools: CPU/request", of("tools", cpu_ms), of("whole", cpu_ms)),
    ("with tools: chunks/s, 50 streams", of("tools-streams", tokens), of("streams-50", tokens)),
    ("with tools: CPU/stream", of("tools-streams", cpu_ms), of("streams-50", cpu_ms)),
)
"""By name: the figure, and the one of the server below where that has no such case."""


def page(tables: str) -> str:
    introduction = Path(__file__).with_name("introduction.md").read_text(encoding="utf-8")
    return f"{introduction}\n{tables}"


def tables(measured: Measured) -> str:
    pairs = (("d", "c"), ("d", "b"), ("e", "c"))
    ratios = [
        [name, *(_number(ratio(*pair, figure, below)(measured), 2) for pair in pairs)]
        for name, figure, below in COMPARED
    ]
    return (
        "\n\n".join(
            [
                "## Measured",
                *_circumstances(measured),
                *(
                    f"### {title}\n\n{_table(columns, measured.records.values())}"
                    for title, columns in TABLES
                ),
                *_durable(measured),
                *_encoders(measured.encoder_costs),
                f"### Ratios\n\n{_markdown(['', 'd/c', 'd/b', 'e/c'], ratios)}",
                "### Goals\n\n"
                + _markdown(
                    ["", "goal", "measured", "reached"], [goal.row(measured) for goal in GOALS]
                ),
            ]
        )
        + "\n"
    )


def _circumstances(measured: Measured) -> list[str]:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    rounds = measured.plan.rounds
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {_cpu_model()}, {os.cpu_count()} cores, {_memory_gb()} GB, "
        f"{platform.system()} {platform.release().partition('-')[0]}, "
        f"{platform.python_implementation()} {platform.python_version()}; {libraries}.",
        f"Median of {rounds} rounds; (c) at 200 and 500 streams, first start and memory of an open "
        "stream: once."
        if rounds > 1
        else "One round: an impression, not a result.",
        *measured.notes,
    ]


def _table(columns: Sequence[Column], records: Iterable[Record]) -> str:
    rows = [
        [
            f"({record.target.key}) {record.target.title}",
            *(_number(column.figure(record), column.digits) for column in columns),
        ]
        for record in records
    ]
    return _markdown(["", *(column.title for column in columns)], rows)


def _durable(measured: Measured) -> list[str]:
    if not measured.durable_runs:
        return []
    rows = [
        [
            f"({key}) {measured.records[key].target.title}",
            *(_number(figure(figures), digits) for _, figure, digits in DURABLE),
        ]
        for key, figures in measured.durable_runs.items()
    ]
    head = ["", *(title for title, _, _ in DURABLE)]
    return [f"### Durable runs of an agent with tools\n\n{_markdown(head, rows)}"]


def _encoders(costs: Sequence[Cost]) -> list[str]:
    if not costs:
        return []
    head = ["", *costs[0].us]
    rows = [[cost.format, *(_number(us, 2) for us in cost.us.values())] for cost in costs]
    return [f"### Encoders of a stream, CPU µs/event\n\n{_markdown(head, rows)}"]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:,.{digits}f}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gb() -> int:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
