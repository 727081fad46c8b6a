from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from runtime.templates.langgraph import LangGraphTemplate


class Notebook(LangGraphTemplate):
    """Keeps what it is told, and answers questions from it."""

    template_id, template_name, template_version = "notebook", "Notebook", "1.0.0"

    def build_graph(self) -> StateGraph[MessagesState]:
        return StateGraph(MessagesState).add_node(self.note).add_edge(START, "note")

    async def note(self, state: MessagesState) -> dict[str, Any]:
        said = state["messages"][-1].text
        if not said.endswith("?"):
            await self.memory().remember(said)
            return {"messages": [AIMessage("Noted.")]}
        found = await self.memory().search(said, limit=1)
        answer = found[0].fact.text if found else "I don't know."
        return {"messages": [AIMessage(answer)]}
