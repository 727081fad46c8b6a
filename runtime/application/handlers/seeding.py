from dataclasses import dataclass

from runtime.application.commands.agents import AgentChange, CreateAgent
from runtime.application.handlers.agents import CreateAgentHandler
from runtime.domain.errors import NameTaken
from runtime.domain.repositories.agents import AgentFilter
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import LOCAL_ADMIN

FIRST_AGENT = AgentChange(
    name="assistant",
    description="A first agent to talk to. Make your own from any template.",
    template_id="customer-service-bot",
    config={"system_prompt": "You are a helpful assistant."},
)


@dataclass(frozen=True)
class SeedFirstAgent:
    """An empty runtime gets one published agent, so that the first call has an answer."""

    uow: UnitOfWorkFactory
    create: CreateAgentHandler

    async def __call__(self) -> None:
        async with self.uow(LOCAL_ADMIN.scope) as work:
            if (await work.agents.page(AgentFilter(), limit=1, after=None)).items:
                return
        try:
            await self.create(CreateAgent(actor=LOCAL_ADMIN, change=FIRST_AGENT, publish=True))
        except NameTaken:
            return  # Another replica started at the same time.
