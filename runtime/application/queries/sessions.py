from collections.abc import Sequence
from dataclasses import dataclass

from runtime.domain.entities.sessions import Session
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import ItemId, SessionId
from runtime.domain.value_objects.items import Item


@dataclass(frozen=True)
class SessionQueries:
    uow: UnitOfWorkFactory

    async def get(self, caller: Principal, id: SessionId) -> Session:
        """Raises ConversationNotFound."""
        caller.require_scope(KeyScope.MODELS)
        async with self.uow(caller.scope) as work:
            return await work.sessions.get(id)

    async def item(self, caller: Principal, id: SessionId, item: ItemId) -> Item:
        """Raises ConversationNotFound, ItemNotFound."""
        caller.require_scope(KeyScope.MODELS)
        async with self.uow(caller.scope) as work:
            await work.sessions.get(id)
            return (await work.sessions.item(id, item)).item

    async def items(
        self,
        caller: Principal,
        id: SessionId,
        *,
        limit: int,
        after: ItemId | None,
        newest_first: bool,
    ) -> tuple[Sequence[Item], bool]:
        """A page, and whether there are more. Raises ConversationNotFound, ItemNotFound."""
        caller.require_scope(KeyScope.MODELS)
        async with self.uow(caller.scope) as work:
            await work.sessions.get(id)
            found = await work.sessions.items(
                id, limit=limit + 1, after=after, newest_first=newest_first
            )
        return [placed.item for placed in found[:limit]], len(found) > limit
