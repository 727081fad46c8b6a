from typing import Protocol

from runtime.domain.entities.audit import AuditEntry
from runtime.domain.value_objects.ids import LineId
from runtime.domain.value_objects.pages import Page


class AuditRepository(Protocol):
    """Without `sees_all`, the trail of one's own versions and keys."""

    async def add(self, entry: AuditEntry) -> None: ...

    async def of_line(self, id: LineId, *, limit: int, after: str | None) -> Page[AuditEntry]:
        """Newest first; deleted versions are in it. Raises InvalidValue for a foreign cursor."""
