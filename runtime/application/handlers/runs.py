from collections.abc import Sequence
from dataclasses import dataclass

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.catalogue import AgentCatalogue
from runtime.application.services.engine import Engine, Execution, RunKeeper


@dataclass(frozen=True)
class ExecuteAgentHandler:
    catalogue: AgentCatalogue
    engine: Engine

    async def __call__(self, command: ExecuteAgent, keepers: Sequence[RunKeeper] = ()) -> Execution:
        """Raises ModelNotFound and what Engine.start raises. No unit of work is open after this."""
        agent = await self.catalogue.resolve(command.model, command.caller)
        return await self.engine.start(agent, command, keepers)
