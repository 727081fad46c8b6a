from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from runtime.application.commands.runs import ExecuteAgent, SessionRef
from runtime.application.services.catalogue import AgentCatalogue
from runtime.application.services.completions import CompletionKeeper
from runtime.application.services.direct import DirectModels
from runtime.application.services.durable.attempt import Attempt
from runtime.application.services.durable.ordering import order_id
from runtime.application.services.durable.part import DurablePart
from runtime.application.services.engine import Engine
from runtime.application.services.execution import Execution
from runtime.application.services.keepers import RunKeeper
from runtime.application.services.sessions import SessionTurns
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.durable import DurableRun, RunOrder
from runtime.domain.value_objects.memory import is_task_prompt


@dataclass(frozen=True)
class ExecuteAgentHandler:
    catalogue: AgentCatalogue
    engine: Engine
    turns: SessionTurns
    direct: DirectModels

    async def __call__(self, command: ExecuteAgent, keepers: Sequence[RunKeeper] = ()) -> Execution:
        """Raises ModelNotFound, what DirectModels.agent raises, what SessionTurns.begin raises for
        a turn of a session, and what Engine.start raises. No unit of work is open after this."""
        agent = await self.resolve(command)
        if command.labels is not None:
            keepers = [*keepers, CompletionKeeper(agent, command)]
        if command.session is None:
            return await self.engine.start(agent, command, keepers)
        if is_task_prompt(command.messages):
            return await self.engine.start(agent, replace(command, session=None), keepers)
        return await self._turn(agent, command, keepers)

    async def attempt(self, command: ExecuteAgent, model: str, attempt: Attempt) -> Execution:
        """Of a durable run, which has its agent; `model` is what its caller wrote. Raises as a
        call does."""
        agent = await self.resolve(command)
        command = replace(command, model=model)
        if command.session is None:
            return await self.engine.start(agent, command, [attempt], attempt)
        return await self._turn(agent, command, [attempt], attempt)

    async def check(self, agent: Agent, command: ExecuteAgent) -> None:
        """That a run of it can begin later. Raises what a call raises for its options, its limits
        and its conversation."""
        await self.engine.check(agent, command)
        if command.session:
            await self.turns.check(agent, command, command.session)

    async def resolve(self, command: ExecuteAgent) -> Agent:
        """Raises ModelNotFound, what DirectModels.agent raises."""
        if command.direct:
            return self.direct.agent(command.model or None, command.caller)
        return await self.catalogue.resolve(command.model, command.caller)

    async def _turn(
        self,
        agent: Agent,
        command: ExecuteAgent,
        keepers: Sequence[RunKeeper],
        part: DurablePart | None = None,
    ) -> Execution:
        instances = self.engine.instances
        lease = await instances.lease(agent)
        holder = part.id if part else None
        try:
            turn = await self.turns.begin(agent, command, lease.instance, holder)
        finally:
            instances.release(lease)
        asked = turn.command
        if asked.session and asked.session.unnamed:
            asked = replace(asked, session=SessionRef(name=turn.session.id))
        execution = await self.engine.start(agent, asked, [*keepers, turn], part)
        execution.session_id = turn.session.id
        return execution


def ordered(
    command: ExecuteAgent, agent: Agent, at: datetime, *, response: bool = False
) -> DurableRun:
    """The same command, as a run that outlives its caller."""
    caller, session = command.caller, command.session
    return DurableRun(
        id=order_id(at),
        project_id=caller.project_id,
        owner_id=caller.user_id,
        agent_id=agent.id,
        line_id=agent.line_id,
        model=command.model,
        order=RunOrder(
            caller=caller,
            messages=command.messages,
            options=command.options,
            session=session.name if session else None,
            items=command.items,
            metadata=command.metadata,
            direct=command.direct,
            response=response,
        ),
        created_at=at,
    )
