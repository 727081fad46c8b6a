"""What the figures are to reach."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.benchmarks.durable import Figures
from tests.benchmarks.figures import (
    Figure,
    answers,
    by_round,
    cpu_ms,
    figure_of,
    first_token_p50,
    median_of,
    of,
    ratio,
    three_to_one,
    tokens,
)
from tests.benchmarks.suite import Measured

ABSENT = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"


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
            return [self.name, wanted + self.unit, ABSENT, ABSENT]
        verdict = "yes" if self._is_reached(value) else "**no**"
        return [self.name, wanted + self.unit, f"{value:.{self.digits}f}{self.unit}", verdict]

    def _is_reached(self, value: float) -> bool:
        low = self.floor is None or value >= self.floor
        return low and (self.ceiling is None or value <= self.ceiling)


def _first_token_over_forwarder(measured: Measured) -> float | None:
    figure = of("streams-1", first_token_p50)
    ours, floor = figure_of(measured, "d", figure), figure_of(measured, "b", figure)
    return ours - floor if ours is not None and floor is not None else None


def _ours(figure: Figure) -> Callable[[Measured], float | None]:
    return lambda measured: figure_of(measured, "d", figure)


def _durable(
    key: str, name: str, of: Callable[[Figures], float | None], ceiling: float, unit: str
) -> Goal:
    def measured_of(measured: Measured) -> float | None:
        figures = measured.durable_runs.get(key)
        return of(figures) if figures else None

    return Goal(f"durable runs of ({key}): {name}", measured_of, ceiling=ceiling, unit=unit)


def _durable_goals(key: str, pick_up_s: float) -> Iterator[Goal]:
    yield _durable(key, "an event's append", lambda one: median_of(one.append_us), 100, " µs")
    yield _durable(key, "word to reader", lambda one: median_of(one.news_ms), 30, " ms")
    yield _durable(key, "CPU/interactive", lambda one: one.times_interactive, 6, _TIMES)
    yield _durable(key, "pick-up", lambda one: median_of(one.pick_up_s), pick_up_s, " s")
    yield _durable(key, "idle CPU", lambda one: one.idle_percent, 3, " %")
    yield _durable(key, "cancel to call", lambda one: median_of(one.cancel_ms), 300, " ms")


GOALS = (
    Goal("requests/s, d/c", ratio("d", "c", of("whole", answers)), floor=2, unit=_TIMES),
    Goal("requests/s, e/c", ratio("e", "c", of("whole", answers)), floor=1.7, unit=_TIMES),
    Goal("CPU/request, d/c", ratio("d", "c", of("whole", cpu_ms)), ceiling=0.5, unit=_TIMES),
    Goal(
        "CPU/stream of 64 tokens, d/c",
        ratio("d", "c", of("streams-50", cpu_ms)),
        ceiling=0.15,
        unit=_TIMES,
        digits=3,
    ),
    Goal("chunks/s at 50 streams, d/c", ratio("d", "c", of("streams-50", tokens)), 7, unit=_TIMES),
    Goal(
        "first token at 1 stream, d over b",
        _first_token_over_forwarder,
        ceiling=6,
        unit=" ms",
    ),
    Goal(
        "chunks/s at 50 streams, WebSocket/SSE of (d)",
        _ours(by_round("ws-50", "sse-50", tokens)),
        floor=0.9,
        unit=_TIMES,
    ),
    Goal(
        "chunks/s at 500 streams, WebSocket/SSE of (d)",
        _ours(by_round("ws-500", "sse-500", tokens)),
        floor=0.9,
        unit=_TIMES,
    ),
    Goal(
        "CPU of three models at once, `interleaved`/three requests",
        _ours(three_to_one("full")),
        ceiling=1,
        unit=_TIMES,
    ),
    Goal(
        "the same, paced",
        _ours(three_to_one("paced")),
        ceiling=1,
        unit=_TIMES,
    ),
    Goal(
        "encoder of a stream, an event: the dearest format",
        lambda measured: max(
            (us for cost in measured.encoder_costs for us in cost.us.values()), default=None
        ),
        ceiling=20,
        unit=" µs",
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
    Goal(
        "start to ready", _ours(lambda record: median_of(record.starts_s)), ceiling=2.5, unit=" s"
    ),
    Goal(
        "resident when idle",
        _ours(lambda record: median_of(record.idle_mb)),
        ceiling=160,
        unit=" MB",
        digits=0,
    ),
    *_durable_goals("d", pick_up_s=4),
    *_durable_goals("e", pick_up_s=5),
    _durable(
        "e",
        "word to reader by another process",
        lambda one: median_of(one.other_news_ms),
        30,
        " ms",
    ),
    _durable(
        "e",
        "cancel to call by another process",
        lambda one: median_of(one.other_cancel_ms),
        300,
        " ms",
    ),
)
