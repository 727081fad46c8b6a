from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.catalogue import AgentCatalogue
from runtime.application.services.completions import CompletionKeeper
from runtime.application.services.engine import Engine, Execution, RunKeeper
from runtime.application.services.sessions import SessionTurns
from runtime.domain.entities.agents import Agent
from runtime.domain.value_objects.memory import is_task_prompt


@dataclass(frozen=True)
class ExecuteAgentHandler:
    catalogue: AgentCatalogue
    engine: Engine
    turns: SessionTurns

    async def __call__(self, command: ExecuteAgent, keepers: Sequence[RunKeeper] = ()) -> Execution:
        """Raises ModelNotFound, what SessionTurns.begin raises for a turn of a session, and what
        Engine.start raises. No unit of work is open after this."""
        agent = await self.catalogue.resolve(command.model, command.caller)
        if command.labels is not None:
            keepers = [*keepers, CompletionKeeper(agent, command)]
        if command.session is None:
            return await self.engine.start(agent, command, keepers)
        if is_task_prompt(command.messages):
            return await self.engine.start(agent, replace(command, session=None), keepers)
        return await self._turn(agent, command, keepers)

    async def _turn(
        self, agent: Agent, command: ExecuteAgent, keepers: Sequence[RunKeeper]
    ) -> Execution:
        instances = self.engine.instances
        lease = await instances.lease(agent)
        try:
            turn = await self.turns.begin(agent, command, lease.instance)
        finally:
            instances.release(lease)
        execution = await self.engine.start(agent, turn.command, [*keepers, turn])
        execution.session_id = turn.session.id
        return execution
