"""`docs/performance.md`: a hand-written introduction, then what was measured."""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tests.benchmarks.suite import Measured, Record, Sample

_LIBRARIES = ("uvicorn", "uvloop", "fastapi", "langgraph", "langchain-openai", "openai", "aiohttp")
_ABSENT = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"

Figure = Callable[[Record], float | None]


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    figure: Figure
    digits: int = 1


@dataclass(frozen=True, slots=True)
class Goal:
    """What is measured is at least `floor`, or at most `ceiling`."""

    name: str
    of: Callable[[Measured], float | None]
    """None where it was not measured."""
    floor: float | None = None
    ceiling: float | None = None
    unit: str = ""
    digits: int = 2

    def row(self, measured: Measured) -> list[str]:
        wanted = f"≥ {self.floor:g}" if self.floor is not None else f"≤ {self.ceiling:g}"
        value = self.of(measured)
        if value is None:
            return [self.name, wanted + self.unit, _ABSENT, _ABSENT]
        verdict = "yes" if self._is_reached(value) else "**no**"
        return [self.name, wanted + self.unit, f"{value:.{self.digits}f}{self.unit}", verdict]

    def _is_reached(self, value: float) -> bool:
        low = self.floor is None or value >= self.floor
        return low and (self.ceiling is None or value <= self.ceiling)


def _of(case: str, figure: Callable[[Sample], float]) -> Figure:
    return lambda record: record.median(case, figure)


def _times(case: str, to: str) -> Figure:
    def ratio(record: Record) -> float | None:
        above, below = record.median(case, _cpu_ms), record.median(to, _cpu_ms)
        return above / below if above and below else None

    return ratio


def _answers(sample: Sample) -> float:
    return sample.answers_per_s


def _tokens(sample: Sample) -> float:
    return sample.tokens_per_s


def _cpu_ms(sample: Sample) -> float:
    return sample.cpu_ms_per_answer


def _cpu_us(sample: Sample) -> float:
    return sample.cpu_us_per_token


def _first_token_p50(sample: Sample) -> float:
    return sample.result.first_token_p50_ms


def _first_token_p95(sample: Sample) -> float:
    return sample.result.first_token_p95_ms


TABLES: Sequence[tuple[str, Sequence[Column]]] = (
    (
        "Not streaming, 32 connections",
        (
            Column("requests/s", _of("whole", _answers), 0),
            Column("p50 ms", _of("whole", lambda sample: sample.result.latency_p50_ms)),
            Column("p95 ms", _of("whole", lambda sample: sample.result.latency_p95_ms)),
            Column("CPU ms/request", _of("whole", _cpu_ms), 2),
        ),
    ),
    (
        "Time to the first token in ms, by streams at once",
        (
            Column("1, p50", _of("streams-1", _first_token_p50)),
            Column("1, p95", _of("streams-1", _first_token_p95)),
            Column("50, p50", _of("streams-50", _first_token_p50)),
            Column("50, p95", _of("streams-50", _first_token_p95)),
            Column("50 paced, p50", _of("paced-50", _first_token_p50)),
            Column("200, p50", _of("streams-200", _first_token_p50), 0),
            Column("500, p50", _of("streams-500", _first_token_p50), 0),
        ),
    ),
    (
        "Chunks/s, by streams of 64 tokens at once",
        (
            Column("1", _of("streams-1", _tokens), 0),
            Column("50", _of("streams-50", _tokens), 0),
            Column("200", _of("streams-200", _tokens), 0),
            Column("500", _of("streams-500", _tokens), 0),
        ),
    ),
    (
        "CPU of streaming 64 tokens, 50 streams at once",
        (
            Column("ms/stream", _of("streams-50", _cpu_ms), 2),
            Column("µs/chunk", _of("streams-50", _cpu_us)),
            Column("paced: ms/stream", _of("paced-50", _cpu_ms), 2),
            Column("paced: µs/chunk", _of("paced-50", _cpu_us)),
        ),
    ),
    (
        "An agent with tools",
        (
            Column("requests/s", _of("tools", _answers), 0),
            Column("CPU ms/request", _of("tools", _cpu_ms), 2),
            Column("chunks/s, 50 streams", _of("tools-streams", _tokens), 0),
            Column("CPU ms/stream", _of("tools-streams", _cpu_ms), 2),
        ),
    ),
    (
        "A turn of a session",
        (
            Column("requests/s", _of("session", _answers), 0),
            Column("CPU ms/request", _of("session", _cpu_ms), 2),
            Column("CPU ÷ without one", _times("session", "whole"), 2),
            Column("of 500 messages: CPU ms/request", _of("long-session", _cpu_ms), 2),
            Column("CPU ÷ without one", _times("long-session", "whole"), 2),
        ),
    ),
    (
        "The process",
        (
            Column("first start s", lambda record: record.first_start_s or None, 2),
            Column("start s", lambda record: _median(record.starts_s), 2),
            Column("idle MB", lambda record: _median(record.idle_mb), 0),
            Column("peak MB", lambda record: _median(record.peak_mb), 0),
            Column("KB/open stream", lambda record: record.kb_per_stream or None, 0),
            Column("errors", lambda record: record.errors, 0),
        ),
    ),
)


def _ratio(
    above: str, below: str, figure: Figure, of_below: Figure | None = None
) -> Callable[[Measured], float | None]:
    def ratio(measured: Measured) -> float | None:
        over = _figure(measured, above, figure)
        under = _figure(measured, below, of_below or figure)
        return over / under if over is not None and under else None

    return ratio


def _first_token_over_forwarder(measured: Measured) -> float | None:
    figure = _of("streams-1", _first_token_p50)
    ours, floor = _figure(measured, "d", figure), _figure(measured, "b", figure)
    return ours - floor if ours is not None and floor is not None else None


def _ours(figure: Figure) -> Callable[[Measured], float | None]:
    return lambda measured: _figure(measured, "d", figure)


GOALS = (
    Goal("requests/s, d/c", _ratio("d", "c", _of("whole", _answers)), floor=2, unit=_TIMES),
    Goal("requests/s, e/c", _ratio("e", "c", _of("whole", _answers)), floor=1.7, unit=_TIMES),
    Goal("CPU/request, d/c", _ratio("d", "c", _of("whole", _cpu_ms)), ceiling=0.5, unit=_TIMES),
    Goal(
        "CPU/stream of 64 tokens, d/c",
        _ratio("d", "c", _of("streams-50", _cpu_ms)),
        ceiling=0.15,
        unit=_TIMES,
        digits=3,
    ),
    Goal(
        "chunks/s at 50 streams, d/c", _ratio("d", "c", _of("streams-50", _tokens)), 7, unit=_TIMES
    ),
    Goal(
        "first token at 1 stream, d over b",
        _first_token_over_forwarder,
        ceiling=6,
        unit=" ms",
    ),
    Goal(
        "errors of (d)",
        lambda measured: measured.records["d"].errors if "d" in measured.records else None,
        ceiling=0,
        digits=0,
    ),
    Goal(
        "memory of an open stream",
        _ours(lambda record: record.kb_per_stream or None),
        ceiling=100,
        unit=" KB",
        digits=0,
    ),
    Goal("start to ready", _ours(lambda record: _median(record.starts_s)), ceiling=2.5, unit=" s"),
    Goal(
        "resident when idle",
        _ours(lambda record: _median(record.idle_mb)),
        ceiling=160,
        unit=" MB",
        digits=0,
    ),
)

COMPARED: Sequence[tuple[str, Figure, Figure | None]] = (
    ("requests/s", _of("whole", _answers), None),
    ("CPU/request", _of("whole", _cpu_ms), None),
    ("first token, 1 stream", _of("streams-1", _first_token_p50), None),
    ("chunks/s, 50 streams", _of("streams-50", _tokens), None),
    ("CPU/stream, 50 streams", _of("streams-50", _cpu_ms), None),
    ("CPU/stream, 50 paced streams", _of("paced-50", _cpu_ms), None),
    ("with tools: requests/s", _of("tools", _answers), _of("whole", _answers)),
    ("with tools: CPU/request", _of("tools", _cpu_ms), _of("whole", _cpu_ms)),
    ("with tools: chunks/s, 50 streams", _of("tools-streams", _tokens), _of("streams-50", _tokens)),
    ("with tools: CPU/stream", _of("tools-streams", _cpu_ms), _of("streams-50", _cpu_ms)),
)
"""By name: the figure, and the one of the server below where that has no such case."""


def page(tables: str) -> str:
    introduction = Path(__file__).with_name("introduction.md").read_text(encoding="utf-8")
    return f"{introduction}\n{tables}"


def tables(measured: Measured) -> str:
    pairs = (("d", "c"), ("d", "b"), ("e", "c"))
    ratios = [
        [name, *(_number(_ratio(*pair, figure, below)(measured), 2) for pair in pairs)]
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


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return _ABSENT if value is None else f"{value:,.{digits}f}"


def _figure(measured: Measured, key: str, figure: Figure) -> float | None:
    record = measured.records.get(key)
    return figure(record) if record else None


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gb() -> int:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
