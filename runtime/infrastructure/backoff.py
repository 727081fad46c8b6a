import random


class Backoff:
    """How long to leave alone what failed: longer each time, never quite as long as others do."""

    def __init__(self, first_s: float = 0.05, most_s: float = 1.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self.failures = 0

    def next_s(self) -> float:
        wait_s = min(self._most_s, self._first_s * float(2**self.failures))
        self.failures = min(self.failures + 1, 30)
        return wait_s * random.uniform(0.5, 1)

    def reset(self) -> None:
        self.failures = 0
