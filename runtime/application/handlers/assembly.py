from dataclasses import dataclass, replace

from runtime.application.commands.agents import AssembleAgent, CreateAgent
from runtime.application.handlers.agents import Changed, CreateAgentHandler

WITH_TOOLS = "react-agent"
WITHOUT_TOOLS = "langgraph-simple-test"


@dataclass(frozen=True)
class AssembleAgentHandler:
    create: CreateAgentHandler

    async def __call__(self, command: AssembleAgent) -> Changed:
        """Published where the actor needs no reviewer, else a draft that its owner may call.

        Raises what CreateAgentHandler raises.
        """
        change = command.change
        fitting = WITH_TOOLS if change.blanks.tools else WITHOUT_TOOLS
        return await self.create(
            CreateAgent(
                actor=command.actor,
                change=replace(change, template_id=change.template_id or fitting),
                slug=command.slug,
                publish=command.actor.publishes_alone,
            )
        )
