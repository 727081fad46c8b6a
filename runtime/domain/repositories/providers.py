from collections.abc import Mapping, Sequence
from typing import Protocol

from runtime.domain.entities.providers import Provider, ProviderMark
from runtime.domain.value_objects.ids import ProjectId, ProviderId
from runtime.domain.value_objects.pages import Page


class ProviderRepository(Protocol):
    """Providers of the scope's project: they are the project's, whoever registered them."""

    async def get(self, id: ProviderId) -> Provider:
        """Raises ProviderNotFound."""

    async def add(self, provider: Provider) -> None:
        """Raises ProviderExists."""

    async def save(self, provider: Provider) -> None:
        """Raises ConcurrentChange, ProviderNotFound."""

    async def remove(self, provider: Provider) -> None:
        """Raises ConcurrentChange, ProviderNotFound."""

    async def page(self, *, limit: int, after: str | None) -> Page[Provider]:
        """By id. Raises InvalidValue for a cursor that is none of this list's."""

    async def users_of(
        self, id: ProviderId, model: str | None = None, *, by_id: bool = False
    ) -> Sequence[str]:
        """Who would miss it, at most ten: agents (`slug@v7`) that are not revoked, and models of
        other providers (`provider/name`) that fall back on it. `by_id`: the model is the default,
        which is meant by the provider's id alone, too."""


class ProviderBook(Protocol):
    """The providers of every project, outside a caller's transaction."""

    async def marks(self) -> Mapping[tuple[ProjectId, ProviderId], ProviderMark]:
        """By which is seen, at little cost, whether anything changed. Raises
        DatabaseUnavailable."""

    async def providers(self) -> Sequence[Provider]:
        """Raises DatabaseUnavailable."""
