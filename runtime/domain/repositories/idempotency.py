from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runtime.domain.value_objects.idempotency import Claim


@dataclass(frozen=True, slots=True)
class Occupied:
    """What stands in a claim's way."""

    fingerprint: str
    done: bool
    """Else it is in flight."""
    answer: str | None = None
    """Sealed; None where none was kept."""


class IdempotencyStore(Protocol):
    """Keys of every caller, outside a unit of work: each call is a transaction of its own.

    A key is free until it is claimed and again when its time has come: a claim's lease is over, or
    an answer is as old as answers get. Any call raises DatabaseUnavailable while the store can't
    be reached.
    """

    async def claim(self, claim: Claim, *, now: datetime, until: datetime) -> Occupied | None:
        """None: it is the caller's, until then. Of any number of claims at once one succeeds."""

    async def renew(self, tokens: Collection[str], *, until: datetime) -> None:
        """Of claims that are in flight and were not taken over; others are left alone."""

    async def keep(self, claim: Claim, answer: str | None, *, until: datetime) -> bool:
        """End the claim with its sealed answer; False: somebody else has taken it over."""

    async def release(self, claim: Claim) -> None:
        """Free the key, unless it was taken over or its answer is kept."""

    async def prune(self, *, now: datetime, limit: int) -> int:
        """Remove that many whose time has come, at most, and say how many there were."""
