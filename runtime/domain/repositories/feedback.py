from collections.abc import Sequence
from typing import Protocol

from runtime.domain.entities.feedback import Feedback
from runtime.domain.value_objects.ids import RunId


class FeedbackRepository(Protocol):
    """Opinions in the scope's project; without `administers`, one's own."""

    async def put(self, feedback: Feedback) -> None:
        """In place of what the same person said of the same run before. Raises InvalidValue for
        text that can't be stored."""

    async def of_run(self, id: RunId) -> Sequence[Feedback]:
        """Oldest first."""
