import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runtime.domain.repositories.pruning import Pruner

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retention:
    """How long what runs leave behind is kept."""

    kept_for: Sequence[tuple[Pruner, timedelta]]
    now: Callable[[], datetime]

    async def __call__(self) -> None:
        """Delete what is older; what can't be deleted now is the next time."""
        for pruner, age in self.kept_for:
            try:
                await pruner.prune(self.now() - age)
            # One kind that takes too long, say, must not keep the others for ever.
            except Exception:
                logger.warning("%s did not finish", type(pruner).__name__, exc_info=True)
