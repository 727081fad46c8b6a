from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runtime.domain.repositories.pruning import Pruner


@dataclass(frozen=True)
class Retention:
    """How long what runs leave behind is kept."""

    kept_for: Sequence[tuple[Pruner, timedelta]]
    now: Callable[[], datetime]

    async def __call__(self) -> None:
        """Delete what is older. Raises DatabaseUnavailable."""
        for pruner, age in self.kept_for:
            await pruner.prune(self.now() - age)
