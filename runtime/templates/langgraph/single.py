from abc import abstractmethod
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from langgraph.graph import START, MessagesState, StateGraph

from runtime.domain.services.executor import RunInput
from runtime.templates.base import C
from runtime.templates.langgraph.base import LangGraphTemplate
from runtime.templates.langgraph.messages import to_langchain
from runtime.templates.langgraph.steps import Steps
from runtime.templates.scope import RunScope

NODE = "answer"


class SingleNodeTemplate(LangGraphTemplate[C]):
    """A graph of one node, `answer`, from messages to messages.

    With nothing to schedule it is run without LangGraph's scheduler, which would be most of a
    short turn's CPU. The graph itself is there all the same, to be drawn or built into another.
    A durable run keeps no checkpoint of it: its one step is made again, or not at all.
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
        input = await self._with_summary(input, scope.emit)
        state = MessagesState(messages=list[Any](to_langchain(input.messages)))
        self._mark_known(state, scope)
        steps = Steps(scope, shows=self.answer_key is None)
        # The same in every attempt: a durable run begins this one step anew.
        id = str(uuid5(NAMESPACE_OID, input.run_id))
        scope.step = lambda: id
        await steps.started({"id": id, "name": NODE})
        try:
            result = await self.answer(state)
        except Exception as error:
            await steps.ended(id, None, error)
            raise
        await steps.ended(id, result)
