"""How processes know of each other that they live."""

from typing import Protocol

KNOWN_TO_BE_GONE_S = 1e9
"""So long a worker is silent of which it is known that its process has ended."""


class Heartbeat(Protocol):
    """Says of this process that it lives while it has runs, or is about to have some."""

    def hold(self) -> None:
        """It beats until `release` was called as often as this."""

    async def felt(self) -> None:
        """Within `hold`: returns once others know that this process lives; before that, a run
        that it claims would be taken from it. Raises DatabaseUnavailable."""

    def release(self) -> None: ...

    @property
    def beating_for_s(self) -> float:
        """How long the database has been there without a gap, as seen from here; 0: it is not."""

    @property
    def silence_s(self) -> float:
        """How long a worker must have been silent to be taken for dead: `RunQueue.abandoned`.

        The lease, if this process itself could have kept one; else only those count that are
        known to be gone, so that nobody is declared dead for an outage common to all.
        """

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
