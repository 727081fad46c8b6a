from collections.abc import Sequence
from dataclasses import dataclass

from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.repositories.completions import CompletionFilter
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import Message
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import CompletionId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True)
class CompletionQueries:
    uow: UnitOfWorkFactory

    async def get(self, actor: Principal, id: CompletionId) -> ChatCompletion:
        """Raises CompletionNotFound."""
        actor.require_scope(KeyScope.MODELS)
        async with self.uow(actor.scope) as work:
            return await work.completions.get(id)

    async def asked(self, actor: Principal, id: CompletionId) -> Sequence[Message]:
        """The messages that it answers. Raises CompletionNotFound."""
        actor.require_scope(KeyScope.MODELS)
        async with self.uow(actor.scope) as work:
            return await work.completions.asked(id)

    async def page(
        self,
        actor: Principal,
        where: CompletionFilter,
        *,
        limit: int,
        after: CompletionId | None,
        newest_first: bool,
    ) -> Page[ChatCompletion]:
        """Raises InvalidValue."""
        actor.require_scope(KeyScope.MODELS)
        async with self.uow(actor.scope) as work:
            return await work.completions.page(
                where, limit=limit, after=after, newest_first=newest_first
            )
