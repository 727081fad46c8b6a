from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.application.handlers.memories import acting
from runtime.application.services.catalogue import AgentCatalogue
from runtime.domain.entities.memories import Fact, FoundFact, MemoryScope
from runtime.domain.repositories.memories import FactFilter
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import MemoryId, UserId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryQuestion:
    user: UserId | None = None
    """Whose; an admin may ask for others."""
    scope: MemoryScope | None = None
    agent: str | None = None
    """As callers name it: what this agent knows."""
    tag: str | None = None


@dataclass(frozen=True)
class MemoryQueries:
    uow: UnitOfWorkFactory
    catalogue: AgentCatalogue
    now: Callable[[], datetime]

    async def get(self, caller: Principal, id: MemoryId) -> Fact:
        """Raises MemoryNotFound."""
        caller.require_scope(KeyScope.MODELS)
        async with self.uow(caller.scope) as work:
            return await work.memories.get(id, self.now())

    async def page(
        self, caller: Principal, asked: MemoryQuestion, *, limit: int, after: str | None
    ) -> Page[Fact]:
        """Raises ModelNotFound, InvalidValue, Forbidden."""
        where = await self._where(caller, asked)
        async with self.uow(caller.scope) as work:
            return await work.memories.page(where, limit=limit, after=after)

    async def search(
        self, caller: Principal, query: str, asked: MemoryQuestion, *, limit: int
    ) -> Sequence[FoundFact]:
        """Raises ModelNotFound, InvalidValue, Forbidden."""
        where = await self._where(caller, asked)
        async with self.uow(caller.scope) as work:
            return await work.memories.search(query, where, limit=limit)

    async def _where(self, caller: Principal, asked: MemoryQuestion) -> FactFilter:
        caller.require_scope(KeyScope.MODELS)
        acting(caller, asked.user)
        line = None
        if asked.agent is not None:
            line = (await self.catalogue.resolve(asked.agent, caller)).line_id
        return FactFilter(
            at=self.now(), owner_id=asked.user, scope=asked.scope, line_id=line, tag=asked.tag
        )
