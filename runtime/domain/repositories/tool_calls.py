from typing import Protocol

from runtime.domain.entities.tool_calls import RecordedCall
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.pages import Page

SHOWN_OUTPUT = 16_000
"""Characters of an output that a list shows."""


class ToolCallRepository(Protocol):
    """Calls of the scope's project; without `administers`, of one's own runs."""

    async def of_run(self, run: RunId, *, limit: int, after: str | None) -> Page[RecordedCall]:
        """Oldest first. Raises InvalidValue for a cursor that is none of this list's."""
