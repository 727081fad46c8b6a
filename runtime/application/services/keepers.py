import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from runtime.domain.entities.runs import Run
from runtime.domain.events.runs import RunEvent
from runtime.domain.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)


class RunKeeper(Protocol):
    """What a run leaves behind besides its record."""

    async def keep(self, work: UnitOfWork, run: Run, events: Sequence[RunEvent]) -> None:
        """Write how it ended, in a unit of work that all keepers of the run share.

        `events` is everything that happened, without a terminal event: `run` tells the end. Of a
        durable run that is its log, with what was discarded. The reader learns of the end after
        the commit; where a keeper raises, the run has failed.
        """

    async def release(self) -> None:
        """Called once, after `keep`, whatever became of the run or of what was to be kept."""


class LoneKeeper(RunKeeper):
    """One that has a cheaper way to write where nobody else has anything to."""

    async def keep_alone(self, run: Run, events: Sequence[RunEvent]) -> None:
        """As `keep`, in a transaction of its own."""


async def released(keepers: Iterable[RunKeeper]) -> None:
    """All of them, and whatever one raises is no matter of the run's reader."""
    for keeper in keepers:
        try:
            await keeper.release()
        # The others have to be released all the same.
        except Exception:
            logger.exception("%s could not be released", type(keeper).__name__)
