from dataclasses import dataclass

from runtime.domain.entities.keys import ApiKey
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True)
class KeyQueries:
    uow: UnitOfWorkFactory

    async def page(self, actor: Principal, *, limit: int, after: str | None) -> Page[ApiKey]:
        """Revoked and expired ones too."""
        actor.require_scope(KeyScope.KEYS)
        async with self.uow(actor.scope) as work:
            return await work.keys.page(limit=limit, after=after)
