from abc import abstractmethod
from typing import Any
from uuid import uuid4

from langgraph.graph import START, MessagesState, StateGraph

from runtime.domain.services.executor import RunInput
from runtime.templates.base import C
from runtime.templates.langgraph.base import LangGraphTemplate
from runtime.templates.langgraph.messages import to_langchain
from runtime.templates.scope import RunScope

NODE = "answer"


class SingleNodeTemplate(LangGraphTemplate[C]):
    """A graph of one node, `answer`, from messages to messages.

    With nothing to schedule it is run without LangGraph's scheduler, which would be most of a
    short turn's CPU. The graph itself is there all the same, to be drawn or built into another.
    """

    @abstractmethod
    async def answer(self, state: MessagesState) -> dict[str, Any]:
        """The node."""

    def build_graph(self) -> StateGraph[Any, Any, Any, Any]:
        graph = StateGraph(MessagesState)
        graph.add_node(NODE, self.answer)
        graph.add_edge(START, NODE)
        return graph

    async def _stream_graph(self, input: RunInput, scope: RunScope) -> None:
        state = MessagesState(messages=list[Any](to_langchain(input.messages)))
        self._mark_known(state, scope)
        steps = self._steps(scope)
        task = {"id": str(uuid4()), "name": NODE}
        await steps.started(task)
        try:
            result = await self.answer(state)
        except Exception as error:
            await steps.finished({**task, "error": error})
            raise
        await steps.finished(task)
        await self._show_answers(result, scope)
