from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from runtime.domain.entities.keys import ApiKey
from runtime.domain.value_objects.ids import KeyId
from runtime.domain.value_objects.pages import Page


class ApiKeyRepository(Protocol):
    """API keys of the scope's project; without `administers`, one's own."""

    async def add(self, key: ApiKey) -> None: ...

    async def get(self, id: KeyId) -> ApiKey:
        """Raises KeyNotFound."""

    async def save(self, key: ApiKey) -> None:
        """Store the revocation. The first one stays. Raises KeyNotFound."""

    async def page(self, *, limit: int, after: str | None) -> Page[ApiKey]:
        """Newest first. Raises InvalidValue for a cursor that is none of this list's."""


class KeyRing(Protocol):
    """Keys of every project, outside a caller's transaction: what tells who calls.

    Any call raises DatabaseUnavailable while the store can't be reached.
    """

    async def find(self, prefix: str) -> ApiKey | None:
        """Live or not."""

    async def any_live(self, at: datetime) -> bool: ...

    async def note_uses(self, uses: Mapping[KeyId, datetime]) -> None:
        """Move `last_used_at` on; never back."""
