from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from time import time

from runtime.domain.services.quotas import SLOT_S, WINDOW_S, Asked, RateLimiter, Window
from runtime.domain.value_objects.limits import Rates, Subject

_Slots = dict[int, tuple[int, int]]
"""Requests and tokens by second, oldest first."""


class MemoryRateLimiter(RateLimiter):
    """Of one process, which holds its places until it gives them back."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._windows: defaultdict[Subject, _Slots] = defaultdict(dict)
        self._runs: Counter[Subject] = Counter()

    async def admit(self, asked: Asked) -> Sequence[Window]:
        at = self._clock()
        windows = [self._window(subject, rates, asked, at) for subject, rates in asked.rates]
        if all(window.fits for window in windows):
            for subject, rates in asked.rates:
                self._add(subject, int(at), 1, asked.tokens)
                if rates.concurrent_runs is not None:
                    self._runs[subject] += asked.runs
        return windows

    async def settle(self, asked: Asked, slot: int, tokens: int, runs: int) -> None:
        for subject, rates in asked.rates:
            if tokens:
                self._add(subject, slot if tokens < 0 else int(self._clock()), 0, tokens)
            if rates.concurrent_runs is not None:
                self._runs[subject] -= runs
                if not self._runs[subject]:
                    del self._runs[subject]

    async def renew(self) -> None:
        """Nobody takes them away. What nobody asked about for a minute is forgotten."""
        at = self._clock()
        for subject in list(self._windows):
            if not self._live(subject, at):
                del self._windows[subject]

    def _window(self, subject: Subject, rates: Rates, asked: Asked, at: float) -> Window:
        slots = [(slot, *used) for slot, used in self._live(subject, at).items()]
        seen = Window(at, slots, self._runs[subject], fits=True)
        wanted = (
            (rates.requests_per_minute, seen.requests + 1),
            (rates.tokens_per_minute, seen.tokens + asked.tokens),
            (rates.concurrent_runs, seen.runs + asked.runs),
        )
        fits = all(most is None or used <= most for most, used in wanted)
        return Window(at, slots, seen.runs, fits)

    def _live(self, subject: Subject, at: float) -> _Slots:
        slots = self._windows[subject]
        for slot in list(slots):
            if slot + WINDOW_S + SLOT_S > at:
                break
            del slots[slot]
        return slots

    def _add(self, subject: Subject, slot: int, requests: int, tokens: int) -> None:
        slots = self._windows[subject]
        if slot not in slots and tokens < 0:
            return  # It has left the window, and what it held with it.
        before = slots.get(slot, (0, 0))
        slots[slot] = (before[0] + requests, max(before[1] + tokens, 0))
