from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtime.application.commands.responses import Asked
from runtime.application.services.context import ResponseContext
from runtime.application.services.durable.logs import Reader, RunLogs
from runtime.domain.entities.responses import Response, ResponseStatus
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import InvalidValue, NotInBackground
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import ToolSpec, estimated_tokens
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import ResponseId
from runtime.domain.value_objects.items import Item


@dataclass(frozen=True, slots=True)
class ItemPage:
    items: Sequence[Item]
    has_more: bool


@dataclass(frozen=True)
class ResponseQueries:
    uow: UnitOfWorkFactory
    context: ResponseContext
    logs: RunLogs

    async def get(self, actor: Principal, id: ResponseId) -> Response:
        """Raises ResponseNotFound."""
        actor.require_scope(KeyScope.MODELS)
        async with self.uow(actor.scope) as work:
            response = await work.responses.get(id)
            if response.status is not ResponseStatus.QUEUED:
                return response
            run = await work.durable.get(response.run_id)
        # The row is written when it is ordered and when it ends.
        begun = run.status is not RunStatus.QUEUED or run.attempt > 0
        return replace(response, status=ResponseStatus.IN_PROGRESS) if begun else response

    async def read(self, actor: Principal, id: ResponseId) -> tuple[Response, Reader]:
        """Raises ResponseNotFound, NotInBackground: nobody keeps the events of other ones."""
        response = await self.get(actor, id)
        if not response.background:
            raise NotInBackground(id, "streamed again")
        return response, self.follow(response)

    def follow(self, response: Response) -> Reader:
        """Of one in the background."""
        return self.logs.read(response.run_id, response.scope)

    async def input_items(
        self,
        actor: Principal,
        id: ResponseId,
        *,
        limit: int,
        newest_first: bool,
        after: str | None,
    ) -> ItemPage:
        """Raises ResponseNotFound, InvalidValue for an `after` that is none of the items."""
        items = list((await self.get(actor, id)).input)
        if newest_first:
            items.reverse()
        start = 0
        if after is not None:
            ids = [item.id for item in items]
            if after not in ids:
                raise InvalidValue("This response has no such input item.", param="after")
            start = ids.index(after) + 1  # type: ignore[arg-type]
        return ItemPage(items[start : start + limit], len(items) > start + limit)

    async def input_tokens(self, actor: Principal, asked: Asked, tools: Sequence[ToolSpec]) -> int:
        """About so many, without what the agent adds. Raises what ResponseContext raises."""
        actor.require_scope(KeyScope.MODELS)
        messages = await self.context.messages(actor, asked)
        characters = sum(message.characters for message in messages)
        characters += sum(tool.characters for tool in tools)
        return estimated_tokens(characters)
