from typing import Any

from langgraph.graph import MessagesState
from pydantic import Field

from runtime.templates.config import GenerationConfig
from runtime.templates.langgraph import SingleNodeTemplate


class SimpleConfig(GenerationConfig):
    system_prompt: str = Field(
        default="You are a helpful assistant.",
        max_length=32_000,
        title="System prompt",
        description="What the model is told before every conversation. Empty: nothing.",
        json_schema_extra={"section": "Instructions"},
    )
    history_messages: int = Field(
        default=40,
        ge=1,
        le=1_000,
        title="Messages remembered",
        description="How many of the latest messages the model gets to see.",
        json_schema_extra={"section": "Conversation"},
    )
    history_summary: bool = Field(
        default=False,
        title="Summary of earlier messages",
        description=(
            "In a session, tell the model in a few words what came before those. Costs a short "
            "call of the model now and then."
        ),
        json_schema_extra={"section": "Conversation"},
    )


class SimpleTemplate(SingleNodeTemplate[SimpleConfig]):
    """One model call per answer, with a system prompt of your own. The fastest way to an agent."""

    template_id = "langgraph-simple-test"
    template_name = "Simple chat"
    agent_type = "conversation"
    Config = SimpleConfig

    async def answer(self, state: MessagesState) -> dict[str, Any]:
        messages = self.conversation(
            state["messages"],
            system=self.config.system_prompt,
            last=self.config.history_messages,
        )
        return {"messages": [await self.model.ainvoke(messages)]}
