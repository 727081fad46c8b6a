from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from typing import Any, ClassVar

import orjson
from langchain_core.messages import AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel

from runtime.domain.entities.agents import Agent
from runtime.domain.errors import ApprovalNeedsDurableRun, ExecutionFailed, IterationLimit
from runtime.domain.events.runs import RunCompleted, RunEvent, UsageReported
from runtime.domain.services.durability import HandedOver
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.services.tools import ToolTraits
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.templates.base import BaseAgentTemplate, C, Services
from runtime.templates.langgraph.chat_model import RuntimeChatModel
from runtime.templates.langgraph.durable import Passage
from runtime.templates.langgraph.messages import to_langchain
from runtime.templates.langgraph.state import StateCodec
from runtime.templates.langgraph.steps import Steps, answers_in, step_of_task
from runtime.templates.langgraph.store import RunStore
from runtime.templates.langgraph.summary import with_summary
from runtime.templates.langgraph.tools import once_each
from runtime.templates.scope import CURRENT, RunScope, events_of

Graph = CompiledStateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any]


class LangGraphTemplate(BaseAgentTemplate[C]):
    """A template whose agents are compiled graphs, one per agent version.

    `self.model` is the agent's model as a langchain chat model: what it says in a node streams to
    the caller (`self.model.quiet` does not). A message that a node returns without having
    streamed it is sent in one piece. The graph's nodes are the run's steps.
    """

    framework = "langgraph"
    recursion_limit: ClassVar[int] = 50
    """Most rounds of the graph in one run; more raise IterationLimit."""
    other_models: ClassVar[bool] = False
    """Set it when nodes call chat models other than `self.model`: their tokens then stream too,
    through LangGraph's own `messages` mode, which costs more per token."""
    checkpoint_types: ClassVar[Sequence[type]] = ()
    """Pydantic models, dataclasses, enums and named tuples of yours that the graph's state may
    hold in a durable run. Plain data and langchain's messages always may."""
    answer_key: str | None = None
    """A key of the graph's state whose last value, as text, is the answer. None: the answer is
    what nodes say and return."""

    def __init__(self, config: C, agent: Agent, services: Services) -> None:
        super().__init__(config, agent, services)
        self.model = RuntimeChatModel(
            service=services.models,
            name_of_model=agent.spec.model,
            fixed=self.fixed_options,
        )
        self._codec = StateCodec(self.checkpoint_types)
        self.graph: Graph = _compiled(self.build_graph(), RunStore(self.memory))

    @abstractmethod
    def build_graph(self) -> StateGraph[Any, Any, Any, Any] | Graph:
        """The agent's graph. Pure: it runs once per agent version."""

    def graph_input(self, input: RunInput) -> Mapping[str, object]:
        """The graph's state at the start of a run."""
        return {"messages": to_langchain(input.messages)}

    def round_limit(self) -> int:
        return self.recursion_limit

    async def stream_execute(self, input: RunInput) -> AsyncGenerator[RunEvent]:
        async with aclosing(events_of(self, input)) as events:
            async for event in events:
                yield event

    def obeys(self, response_format: Mapping[str, object]) -> bool:
        if self.answer_key is not None or self.other_models:
            return False
        return self.services.models.obeys(self.agent.spec.model, response_format)

    async def run(self, input: RunInput, emit: Emit) -> None:
        scope = RunScope(input, emit, step=step_of_task)
        token = CURRENT.set(scope)
        try:
            await self._stream_graph(input, scope)
        except GraphRecursionError as error:
            raise IterationLimit(self.round_limit()) from error
        except GraphDrained as error:
            raise HandedOver from error
        finally:
            CURRENT.reset(token)
        finish = scope.finish_reason
        if finish == "tool_calls" and not scope.caller_calls:
            finish = "stop"
        await emit(RunCompleted(finish))

    async def _stream_graph(self, input: RunInput, scope: RunScope) -> None:
        passage = self._passage(input, scope)
        goes_on = await passage.open() if passage else False
        steps = Steps(
            scope,
            shows=self.answer_key is None,
            skipped=passage.finished if passage and goes_on else (),
        )
        if passage and goes_on:
            self.restore(passage.values, scope)
            passage.check_breakpoint(self.graph)
            start: object = passage.start()
        else:
            start = self.graph_input(await self._with_summary(input, scope.emit))
            self._mark_known(start, scope)
        state: object = None
        stopped = False
        async for mode, part in self._parts(start, input, passage, steps):
            if mode == "messages":
                await _show_chunk(part[0], scope)
            elif mode == "values":
                state = part
            elif mode == "updates":
                stopped = stopped or part.get(INTERRUPT) == ()
            elif "result" not in part:
                await steps.started(part)
            elif part["interrupts"]:
                stopped = True
                steps.left(part["id"])
            else:
                await steps.finished(part)
        if passage:
            passage.check_suspended(at_breakpoint=stopped)
        elif stopped:
            raise ApprovalNeedsDurableRun
        if self.answer_key is not None:
            if passage and not steps.any:
                # Nothing was left but to say it: perhaps that was done, too.
                passage.begins_anew()
            await scope.say(_value_text(state, self.answer_key))

    def _parts(
        self, start: object, input: RunInput, passage: Passage | None, steps: Steps
    ) -> AsyncIterator[Any]:
        config: RunnableConfig = {
            "recursion_limit": self.round_limit(),
            "metadata": {"run_id": input.run_id},
        }
        if passage is None:
            return self.graph.astream(start, config, stream_mode=self._modes())
        passage.steps = steps
        config["configurable"] = {"thread_id": input.run_id}
        return passage.graph(self.graph).astream(
            start,
            config,
            stream_mode=self._modes(),
            durability="sync",
            control=passage.control,
        )

    def _passage(self, input: RunInput, scope: RunScope) -> Passage | None:
        if input.durable is None or self.services.checkpoints is None:
            return None
        return Passage(self.services.checkpoints, self._codec, scope, input.durable)

    async def _with_summary(self, input: RunInput, emit: Emit) -> RunInput:
        if input.recall is None:
            return input
        return await with_summary(input, self.model.quiet, emit)

    def restore(self, state: Mapping[str, Any], scope: RunScope) -> None:
        """A durable run goes on from `state`: set what the nodes keep elsewhere."""

    def _mark_known(self, start: object, scope: RunScope) -> None:
        """A node may return the conversation along with its answer: that is nothing new."""
        for message in answers_in(start):
            message.id = message.id or f"in_{uuid7_hex()}"
            scope.shown.add(message.id)

    def _modes(self) -> Sequence[Any]:
        modes = ["tasks"]
        if self.answer_key is not None:
            modes.append("values")
        elif self.other_models:
            modes.append("messages")
        if self.graph.interrupt_before_nodes or self.graph.interrupt_after_nodes:
            modes.append("updates")
        return modes

    def once(
        self, tools: Sequence[BaseTool], traits: Mapping[str, ToolTraits] | None = None
    ) -> list[BaseTool]:
        """Langchain tools of your own whose calls a durable run makes once, as it does with
        granted ones. `traits`, by name: which may be repeated after a crash, and which need a
        person's word. They give text or JSON, and don't call `interrupt`."""
        return once_each(tools, traits or {})

    def conversation(
        self, messages: Sequence[BaseMessage], *, system: str = "", last: int | None = None
    ) -> list[BaseMessage]:
        """What to send to the model: `system`, then the messages, of which the `last` are kept.

        System messages in the conversation always stay, and no tool result loses its call.
        """
        kept = list(messages)
        if last is not None and len(kept) > last:
            talk = [m for m in kept if m.type != "system"]
            start = max(0, len(talk) - last)
            while start and talk[start].type == "tool":
                start -= 1
            kept = [m for m in kept if m.type == "system"] + talk[start:]
        return [SystemMessage(system), *kept] if system else kept


def _compiled(graph: StateGraph[Any, Any, Any, Any] | Graph, store: RunStore) -> Graph:
    if isinstance(graph, StateGraph):
        return graph.compile(store=store)
    graph = copy(graph)
    graph.store = graph.store or store
    # A conversation is in the run's input, and the steps of durable runs are kept elsewhere.
    graph.checkpointer = None
    return graph


def _value_text(state: object, key: str) -> str:
    """Raises ExecutionFailed when the graph left the key empty."""
    value = state.get(key) if isinstance(state, Mapping) else None
    if isinstance(value, list) and value and isinstance(value[-1], BaseMessage):
        value = value[-1]
    if isinstance(value, BaseMessage):
        return str(value.text)
    if value is None:
        raise ExecutionFailed(f"The graph ended without a value of '{key}'.")
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


async def _show_chunk(chunk: object, scope: RunScope) -> None:
    """A token of a model that is not the runtime's."""
    if not isinstance(chunk, AIMessageChunk) or not chunk.id or chunk.id.startswith("msg_"):
        return
    scope.shown.add(chunk.id)
    if chunk.text:
        await scope.say(chunk.text)
    if used := chunk.usage_metadata:
        usage = Usage(used["input_tokens"], used["output_tokens"])
        model = chunk.response_metadata.get("model_name", "")
        await scope.emit(UsageReported(usage, model))
