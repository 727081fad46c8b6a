from datetime import datetime
from typing import Protocol


class Pruner(Protocol):
    """Deletes old rows of one kind, of every project, outside a caller's transaction."""

    async def prune(self, before: datetime) -> int:
        """How many are gone. Raises DatabaseUnavailable."""
