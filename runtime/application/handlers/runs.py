from dataclasses import dataclass

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.catalogue import AgentCatalogue
from runtime.application.services.completions import CompletionKeeper
from runtime.application.services.engine import Engine, Execution


@dataclass(frozen=True)
class ExecuteAgentHandler:
    catalogue: AgentCatalogue
    engine: Engine

    async def __call__(self, command: ExecuteAgent) -> Execution:
        """Raises ModelNotFound and what Engine.start raises. No unit of work is open after this."""
        agent = await self.catalogue.resolve(command.model, command.caller)
        keepers = [] if command.labels is None else [CompletionKeeper(agent, command)]
        return await self.engine.start(agent, command, keepers)
