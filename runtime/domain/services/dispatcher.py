"""Where and when a queued run begins."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from runtime.domain.entities.durable import DurableRun
from runtime.domain.repositories.durable import Ticket

Begin = Callable[[Ticket], Awaitable[None]]
"""Carries out an attempt that was claimed, to its end, its pause or its hand-over. Never raises
but for cancellation."""


class RunDispatcher(Protocol):
    """Brings queued runs to the processes that run them.

    The runs themselves are the queue: a dispatcher that forgets one, or brings one twice, does no
    harm. A run is claimed before it is begun, so it is begun once an attempt; what is queued and
    due but not begun is brought again by the reconciler.
    """

    async def start(self, begin: Begin) -> None:
        """From now on runs may be begun here."""

    async def dispatch(self, run: DurableRun | Ticket) -> None:
        """It is queued, and committed. Raises nothing that the caller could mend."""

    async def stop(self) -> None:
        """Begin nothing more; what goes on here goes on."""
