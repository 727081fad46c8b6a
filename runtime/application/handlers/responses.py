"""Commands of OpenAI's Responses API."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from runtime.application.commands.responses import CancelResponse, CreateResponse, DeleteResponse
from runtime.application.commands.runs import ExecuteAgent, SessionRef
from runtime.application.handlers.runs import ExecuteAgentHandler, ordered
from runtime.application.services.context import ResponseContext
from runtime.application.services.durable.desk import RunDesk
from runtime.application.services.execution import Execution
from runtime.application.services.keepers import RunKeeper
from runtime.domain.entities.responses import (
    End,
    Response,
    ResponseStatus,
    end_of,
    open_items,
    response_id,
)
from runtime.domain.entities.runs import Run
from runtime.domain.errors import NotInBackground, ResponseInProgress
from runtime.domain.events.runs import OUTPUT, RunCancelled, RunEvent, RunFailed, ToolCalled
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.items import Item, items_of

SAID = (*OUTPUT, ToolCalled)


class ResponseKeeper(RunKeeper):
    """Stores a response whose caller waits for it, once it is there."""

    def __init__(self, begun: Callable[[RunId], Response]) -> None:
        self._begun = begun
        self.ended_at: datetime | None = None

    async def keep(self, work: UnitOfWork, run: Run, events: Sequence[RunEvent]) -> None:
        end = end_of(run)
        # Nothing is left where the caller has, or where a refusal was all that it got.
        refused = isinstance(end, RunFailed) and not any(isinstance(e, SAID) for e in events)
        if refused or isinstance(end, RunCancelled):
            return
        output = items_of(run.id, events, open_items(end))
        self.ended_at = run.ended_at
        await work.responses.add(self._begun(run.id).ended(end, output, run.ended_at))

    async def release(self) -> None:
        pass


@dataclass(frozen=True)
class Begun:
    """A response whose run has started."""

    response: Response
    execution: Execution | None
    """None: its run goes on in the background."""
    keeper: ResponseKeeper | None
    """Of a response that is stored and has a caller who waits."""
    now: Callable[[], datetime]

    def ended(self, end: End, output: Sequence[Item]) -> Response:
        """As it is stored, if it is."""
        at = self.keeper and self.keeper.ended_at
        return self.response.ended(end, output, at or self.now())


@dataclass(frozen=True)
class CreateResponseHandler:
    context: ResponseContext
    execute: ExecuteAgentHandler
    desk: RunDesk
    now: Callable[[], datetime]

    async def __call__(self, command: CreateResponse) -> Begun:
        """Raises PreviousResponseNotFound, InvalidValue, and what ExecuteAgentHandler raises; in
        the background what RunDesk.submit raises."""
        command.caller.require_scope(KeyScope.MODELS)
        asked = command.asked
        execute = ExecuteAgent(
            caller=command.caller,
            model=command.model,
            messages=await self.context.messages(command.caller, asked),
            options=command.options,
            stream=command.stream or command.background,
            session=SessionRef(name=asked.conversation) if asked.conversation else None,
            items=asked.input,
            metadata=command.metadata,
        )
        created_at = self.now()
        if command.background:
            return await self._ordered(command, execute, created_at)

        def begun(run: RunId) -> Response:
            return _begun(command, run, created_at)

        keeper = ResponseKeeper(begun) if command.store else None
        execution = await self.execute(execute, [keeper] if keeper else [])
        return Begun(begun(execution.id), execution, keeper, self.now)

    async def _ordered(
        self, command: CreateResponse, execute: ExecuteAgent, created_at: datetime
    ) -> Begun:
        agent = await self.execute.resolve(execute)
        await self.execute.check(agent, execute)
        run = ordered(execute, agent, created_at, response=True)
        response = replace(_begun(command, run.id, created_at), status=ResponseStatus.QUEUED)
        kept = await self.desk.submit(run, response)
        response = replace(response, id=response_id(kept.id), created_at=kept.created_at)
        return Begun(response, None, None, self.now)


def _begun(command: CreateResponse, run: RunId, created_at: datetime) -> Response:
    return Response(
        id=response_id(run),
        project_id=command.caller.project_id,
        owner_id=command.caller.user_id,
        model=command.model,
        status=ResponseStatus.IN_PROGRESS,
        background=command.background,
        previous_id=command.asked.previous_id,
        conversation=command.asked.conversation,
        created_at=created_at,
        settings=command.settings,
        input=command.asked.input,
    )


@dataclass(frozen=True)
class CancelResponseHandler:
    uow: UnitOfWorkFactory
    desk: RunDesk

    async def __call__(self, command: CancelResponse) -> Response:
        """Raises ResponseNotFound, NotInBackground. One that has ended stays as it is."""
        command.actor.require_scope(KeyScope.MODELS)
        async with self.uow(command.actor.scope) as work:
            response = await work.responses.get(command.id)
            if not response.background:
                raise NotInBackground(command.id, "cancelled")
            if response.status.final:
                return response
            run = await work.durable.get(response.run_id)
        await self.desk.cancel(run)
        async with self.uow(command.actor.scope) as work:
            return await work.responses.get(command.id)


@dataclass(frozen=True)
class DeleteResponseHandler:
    uow: UnitOfWorkFactory

    async def __call__(self, command: DeleteResponse) -> None:
        """Raises ResponseNotFound, ResponseInProgress."""
        command.actor.require_scope(KeyScope.MODELS)
        async with self.uow(command.actor.scope) as work:
            response = await work.responses.get(command.id)
            if not response.status.final:
                raise ResponseInProgress(command.id, "cancel it first")
            await work.responses.remove(command.id)
            await work.run_events.remove(response.run_id)
            await work.commit()
