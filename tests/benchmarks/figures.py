"""What is made of the samples: figures of one server, and ratios between servers."""

from collections.abc import Callable, Sequence
from statistics import median

from tests.benchmarks.suite import Measured, Record, Sample

Figure = Callable[[Record], float | None]
_LEAST = 1e-9
"""In place of nothing, where the smallest load took no tick of the clock."""


def of(case: str, figure: Callable[[Sample], float]) -> Figure:
    return lambda record: record.median(case, figure)


def times(case: str, to: str) -> Figure:
    def quotient(record: Record) -> float | None:
        above, below = record.median(case, cpu_ms), record.median(to, cpu_ms)
        return above / below if above and below else None

    return quotient


def three(figure: Figure) -> Figure:
    def thrice(record: Record) -> float | None:
        one = figure(record)
        return None if one is None else 3 * one

    return thrice


def by_round(above: str, below: str, figure: Callable[[Sample], float]) -> Figure:
    """The median of each round's ratio: the two cases stand side by side in a round, and what
    else the machine does hits both."""

    def quotient(record: Record) -> float | None:
        pairs = zip(record.samples.get(above, ()), record.samples.get(below, ()), strict=True)
        return median_of([figure(over) / max(figure(under), _LEAST) for over, under in pairs])

    return quotient


def three_to_one(kind: str) -> Figure:
    """CPU a token, so that both count the same answers."""
    return by_round(f"three-{kind}", f"one-{kind}", cpu_us)


def answers(sample: Sample) -> float:
    return sample.answers_per_s


def tokens(sample: Sample) -> float:
    return sample.tokens_per_s


def cpu_ms(sample: Sample) -> float:
    return sample.cpu_ms_per_answer


def cpu_us(sample: Sample) -> float:
    return sample.cpu_us_per_token


def first_token_p50(sample: Sample) -> float:
    return sample.result.first_token_p50_ms


def first_token_p95(sample: Sample) -> float:
    return sample.result.first_token_p95_ms


def ratio(
    above: str, below: str, figure: Figure, of_below: Figure | None = None
) -> Callable[[Measured], float | None]:
    def quotient(measured: Measured) -> float | None:
        over = figure_of(measured, above, figure)
        under = figure_of(measured, below, of_below or figure)
        return over / under if over is not None and under else None

    return quotient


def figure_of(measured: Measured, key: str, figure: Figure) -> float | None:
    record = measured.records.get(key)
    return figure(record) if record else None


def median_of(values: Sequence[float]) -> float | None:
    return median(values) if values else None
