"""Who may begin how much in a minute, and how much at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.domain.value_objects.limits import Rates, Subject

WINDOW_S = 60
SLOT_S = 1
"""What an admission is rounded to: it counts for 60 s, and until the end of the second then."""
LEASE_S = 30.0
"""How long the places of a process that was killed stay taken."""


@dataclass(frozen=True, slots=True)
class Window:
    """A subject's last minute, before this admission. In slots, oldest first, as (second since the
    epoch, requests, tokens)."""

    at: float
    slots: Sequence[tuple[int, int, int]]
    runs: int
    """Going on."""
    fits: bool

    @property
    def requests(self) -> int:
        return sum(slot[1] for slot in self.slots)

    @property
    def tokens(self) -> int:
        return sum(slot[2] for slot in self.slots)

    @property
    def whole_s(self) -> float:
        """How long what is admitted now will count."""
        return self._leaves_in((int(self.at), 0, 0))

    def wait_s(self, kind: int, surplus: int) -> float:
        """Until `surplus` requests (1) or tokens (2) have left the window."""
        for slot in self.slots:
            surplus -= slot[kind]
            if surplus <= 0:
                return self._leaves_in(slot)
        return 0.0

    def reset_s(self, kind: int) -> float:
        """Until nothing is left of them."""
        used = [slot for slot in self.slots if slot[kind]]
        return self._leaves_in(used[-1]) if used else 0.0

    def _leaves_in(self, slot: tuple[int, int, int]) -> float:
        return max(slot[0] + WINDOW_S + SLOT_S - self.at, 0.0)


@dataclass(frozen=True, slots=True)
class Asked:
    """`holder` is the name of the places taken, until they are given back."""

    holder: str
    rates: Sequence[tuple[Subject, Rates]]
    """Each subject once."""
    tokens: int
    runs: int


class RateLimiter(Protocol):
    """Counts requests, tokens and runs, all replicas together where they share a server.

    Any call raises DatabaseUnavailable while the store can't be reached.
    """

    async def admit(self, asked: Asked) -> Sequence[Window]:
        """In the order of `asked.rates`. Where one of them has no room nothing is counted."""

    async def settle(self, asked: Asked, slot: int, tokens: int, runs: int) -> None:
        """`tokens` more than were counted in that slot, or less; `runs` places are free again."""

    async def renew(self) -> None:
        """The places that this process holds stay taken for another LEASE_S."""
