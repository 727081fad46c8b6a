from collections import deque
from collections.abc import Mapping

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Latest:
    """Durations of the latest calls, in seconds, as quantiles in milliseconds."""

    __slots__ = ("_seconds",)

    def __init__(self, most: int = 512) -> None:
        self._seconds: deque[float] = deque(maxlen=most)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def quantiles(self) -> Mapping[str, float]:
        """`p50`, `p95` and `p99`; empty while there is nothing to tell."""
        ordered = sorted(self._seconds)
        if not ordered:
            return {}
        last = len(ordered) - 1
        return {name: round(ordered[round(q * last)] * 1_000, 1) for name, q in _QUANTILES.items()}
