"""What the calls of one model were like, in this process."""

from collections.abc import Mapping

from runtime.domain.services.monitor import CallEnd
from runtime.domain.value_objects.chat import NO_USAGE, Usage
from runtime.domain.value_objects.quantiles import Latest

_SMOOTHING = 0.2


class CallStatistics:
    __slots__ = (
        "_answered_s",
        "_first_s",
        "active",
        "errors",
        "fallbacks",
        "last_error",
        "last_failed",
        "requests",
        "smoothed_first_s",
        "usage",
    )

    def __init__(self) -> None:
        self.requests = self.errors = self.active = self.fallbacks = 0
        self.usage: Usage = NO_USAGE
        self.last_error: str | None = None
        self.last_failed = False
        """Whether the most recent call failed through the provider's fault."""
        self.smoothed_first_s: float | None = None
        """Of the first token; the latest calls weigh most."""
        self._first_s = Latest()
        self._answered_s = Latest()

    def began(self) -> None:
        self.requests += 1
        self.active += 1

    def ended(self, end: CallEnd, *, at_fault: bool) -> None:
        self.active -= 1
        self.usage += end.usage
        if end.first_event_s is not None:
            self._first_s.add(end.first_event_s)
            before = self.smoothed_first_s
            change = 0.0 if before is None else end.first_event_s - before
            self.smoothed_first_s = (before or end.first_event_s) + _SMOOTHING * change
        if end.outcome == "success":
            self.last_failed = False
            self._answered_s.add(end.duration_s)
        elif end.outcome != "cancelled":
            self.errors += 1
            self.last_error = end.outcome
            self.last_failed = at_fault

    @property
    def first_token_ms(self) -> Mapping[str, float]:
        return self._first_s.quantiles()

    @property
    def latency_ms(self) -> Mapping[str, float]:
        return self._answered_s.quantiles()
