"""Bodies of the gateway's agent routes, as its clients have them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from runtime.application.commands.agents import AgentChange
from runtime.domain.entities.agents import Agent
from runtime.domain.services.templates import PlatformBlanks
from runtime.domain.value_objects.agents import AgentStatus

CONVERSATION = "conversation"
TOOL_USE = "tool_use"


class AgentIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "name": "Reckoner",
                    "description": "Does sums.",
                    "system_prompt": "You are a helpful assistant.",
                    "capabilities": [CONVERSATION, TOOL_USE],
                    "tools": ["calculator"],
                }
            ]
        },
    )

    name: str = Field(min_length=1, max_length=128)
    description: str = Field(default="", max_length=4_000)
    model_id: str | None = Field(
        default=None, max_length=200, description="A model; unset: the operator's default."
    )
    system_prompt: str | None = Field(default=None, max_length=100_000)
    capabilities: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="What is meant; what the agent can do follows from its template and tools.",
    )
    tools: list[str] = Field(default_factory=list, max_length=100)
    slug: str | None = Field(
        default=None, max_length=64, description="What callers write in `model`; made of `name`."
    )
    template_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Unset: `react-agent` where there are tools, else `langgraph-simple-test`.",
    )
    template_config: dict[str, JsonValue] | None = Field(
        default=None, description="More of the template's blanks."
    )

    def change(self) -> AgentChange:
        return AgentChange(
            name=self.name,
            description=self.description,
            template_id=self.template_id,
            config=self.template_config,
            blanks=PlatformBlanks(system_prompt=self.system_prompt, tools=self.tools or None),
            model=self.model_id,
        )


class AgentOut(BaseModel):
    agent_id: str
    name: str
    description: str
    model_id: str | None
    system_prompt: str | None
    capabilities: list[str]
    tools: list[str]
    status: str = Field(
        description="`published`: whoever sees it can call it. `draft`: only its owner can."
    )
    model: str = Field(description="What to write in `model` of the OpenAI routes.")
    template_id: str
    template_version: str
    template_config: dict[str, Any]
    version: str
    owner_id: str
    created_at: datetime
    updated_at: datetime
    warnings: list[str]

    @classmethod
    def of(cls, agent: Agent, warnings: Sequence[str] = ()) -> "AgentOut":
        spec = agent.spec
        config = dict(spec.config)
        prompt, tools = config.get("system_prompt"), config.get("tools")
        granted = [str(tool) for tool in tools] if isinstance(tools, list) else []
        published = agent.status is AgentStatus.PUBLISHED
        return cls(
            agent_id=agent.id,
            name=spec.name,
            description=spec.description,
            model_id=spec.model,
            system_prompt=prompt if isinstance(prompt, str) else None,
            capabilities=[CONVERSATION, *([TOOL_USE] if granted else [])],
            tools=granted,
            status=agent.status.value,
            model=agent.slug.value if published else f"{agent.slug}@{agent.version}",
            template_id=spec.template.id,
            template_version=spec.template.version,
            template_config=config,
            version=agent.version,
            owner_id=agent.owner_id,
            created_at=agent.created_at,
            updated_at=agent.updated_at,
            warnings=list(warnings),
        )
