"""A circuit breaker: a model that fails again and again is left alone for a while."""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Literal

from runtime.domain.value_objects.providers import BreakerState

Outcome = Literal["success", "failure", "unknown"]
"""Unknown: cancelled, or refused for reasons that say nothing of the model's health."""
WINDOW = 4
"""The last calls looked at, as a multiple of the threshold."""
PROBE_WAIT_S = 1.0
"""What callers are told to wait while the one probe is under way."""


class CircuitBreaker:
    """Opens after `threshold` failures in a row; after `recovery_s` one call may try again.

    Among very many calls of which a few fail, some will fail in a row by chance: it opens only when
    at least half of the last calls failed too, of `WINDOW` times the threshold.

    The success of the one call closes the circuit, its failure opens it anew. Calls that began
    before the circuit opened no longer count.
    """

    __slots__ = (
        "_clock",
        "_failures",
        "_last_failed",
        "_open_until",
        "_probing",
        "_recovery_s",
        "_threshold",
    )

    def __init__(
        self, threshold: int, recovery_s: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._threshold = threshold
        self._recovery_s = recovery_s
        self._clock = clock
        self._failures = 0
        self._last_failed: deque[bool] = deque(maxlen=WINDOW * threshold)
        self._open_until: float | None = None
        self._probing = False

    @property
    def state(self) -> BreakerState:
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half_open"

    @property
    def admits(self) -> bool:
        """Whether `enter` would let a call through now."""
        return self._open_until is None or (self.state == "half_open" and not self._probing)

    @property
    def retry_after_s(self) -> float:
        if self._open_until is None:
            return 0.0
        return max(self._open_until - self._clock(), PROBE_WAIT_S)

    def enter(self) -> bool | None:
        """None: the call may not be made. Else whether it is the probe, which `leave` is told."""
        if self._open_until is None:
            return False
        if not self.admits:
            return None
        self._probing = True
        return True

    def leave(self, outcome: Outcome, *, probe: bool) -> None:
        if probe:
            self._probing = False
        elif self._open_until is not None:
            return
        if outcome == "unknown":
            return
        self._last_failed.append(outcome == "failure")
        if outcome == "success":
            self._failures = 0
            if probe:
                self.reset()
            return
        self._failures += 1
        if probe or self._fails_mostly:
            self._open_until = self._clock() + self._recovery_s

    @property
    def _fails_mostly(self) -> bool:
        in_a_row = self._failures >= self._threshold
        return in_a_row and 2 * sum(self._last_failed) >= len(self._last_failed)

    def reset(self) -> None:
        self._failures = 0
        self._last_failed.clear()
        self._open_until = None
