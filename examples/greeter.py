from typing import Any, Literal

from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from runtime.templates.langgraph import LangGraphTemplate


class Greeter(LangGraphTemplate):
    """Greets, then answers."""

    template_id, template_name, template_version = "greeter", "Greeter", "1.0.0"

    class Config(BaseModel):
        tone: Literal["warm", "formal"] = "warm"

    def build_graph(self) -> StateGraph[MessagesState]:
        return StateGraph(MessagesState).add_node(self.answer).add_edge(START, "answer")

    async def answer(self, state: MessagesState) -> dict[str, Any]:
        system = f"Greet the user in a {self.config.tone} tone, then answer."
        messages = self.conversation(state["messages"], system=system)
        return {"messages": [await self.model.ainvoke(messages)]}
