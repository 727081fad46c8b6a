"""A graph that calls tools in two branches at once, and then a model."""

import json
import operator
from typing import Annotated, Any

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from runtime.templates.langgraph import LangGraphTemplate
from runtime.templates.langgraph.tools import as_langchain


class BranchesState(MessagesState):
    results: Annotated[list[str], operator.add]


class Branches(LangGraphTemplate):
    """Half of the calls left, half of them right."""

    template_id, template_name, template_version = "branches", "Branches", "1.0.0"
    agent_type = "workflow"

    class Config(BaseModel):
        tools: list[str] = ["charge", "lookup"]

    def build_graph(self) -> StateGraph[BranchesState]:
        tools = as_langchain(self.services.tools, self.config.tools, 30)
        self._tools = {tool.name: tool for tool in tools}
        graph = StateGraph(BranchesState)
        graph.add_node("left", self.left)
        graph.add_node("right", self.right)
        graph.add_node("answer", self.answer)
        graph.add_node("sign", self.sign)
        for side in ("left", "right"):
            graph.add_edge(START, side)
        graph.add_edge(["left", "right"], "answer")
        graph.add_edge("answer", "sign")
        graph.add_edge("sign", END)
        return graph

    async def left(self, state: BranchesState) -> dict[str, Any]:
        return await self._half(state, 0)

    async def right(self, state: BranchesState) -> dict[str, Any]:
        return await self._half(state, 1)

    async def _half(self, state: BranchesState, side: int) -> dict[str, Any]:
        calls = json.loads(str(state["messages"][-1].content))["calls"][side::2]
        return {"results": [await self._tools[n].ainvoke({"token": t}) for n, t in calls]}

    async def answer(self, state: BranchesState) -> dict[str, Any]:
        return {"messages": [await self.model.ainvoke(state["messages"])]}

    async def sign(self, state: BranchesState) -> dict[str, Any]:
        return {"messages": [AIMessage(" ".join(sorted(state["results"])))]}
