from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Any, ClassVar

import orjson
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel

from runtime.domain.entities.agents import Agent
from runtime.domain.errors import ExecutionFailed, IterationLimit
from runtime.domain.events.runs import (
    RunCompleted,
    RunEvent,
    StepFinished,
    StepStarted,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.templates.base import BaseAgentTemplate, C, Services
from runtime.templates.langgraph.chat_model import RuntimeChatModel
from runtime.templates.langgraph.messages import to_langchain, tool_calls_of
from runtime.templates.langgraph.store import RunStore
from runtime.templates.langgraph.summary import with_summary
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
        scope = RunScope(input, emit)
        token = CURRENT.set(scope)
        try:
            if input.recall is not None:
                input = await with_summary(input, self.model.quiet, emit)
            await self._stream_graph(input, scope)
        except GraphRecursionError as error:
            raise IterationLimit(self.round_limit()) from error
        finally:
            CURRENT.reset(token)
        finish = scope.finish_reason
        if finish == "tool_calls" and not scope.caller_calls:
            finish = "stop"
        await emit(RunCompleted(finish))

    async def _stream_graph(self, input: RunInput, scope: RunScope) -> None:
        config: RunnableConfig = {
            "recursion_limit": self.round_limit(),
            "metadata": {"run_id": input.run_id},
        }
        steps = self._steps(scope)
        start = self.graph_input(input)
        self._mark_known(start, scope)
        parts: AsyncIterator[Any] = self.graph.astream(start, config, stream_mode=self._modes())
        state: object = None
        async for mode, part in parts:
            if mode == "messages":
                await _show_chunk(part[0], scope)
            elif mode == "values":
                state = part
            elif "result" not in part:
                await steps.started(part)
            else:
                await steps.finished(part)
                await self._show_answers(part["result"], scope)
        if self.answer_key is not None:
            await scope.say(_value_text(state, self.answer_key))

    def _steps(self, scope: RunScope) -> "_Steps":
        return _Steps(scope)

    def _mark_known(self, start: object, scope: RunScope) -> None:
        """A node may return the conversation along with its answer: that is nothing new."""
        for message in _answers(start):
            message.id = message.id or f"in_{uuid7_hex()}"
            scope.shown.add(message.id)

    async def _show_answers(self, result: object, scope: RunScope) -> None:
        if self.answer_key is None:
            for message in _answers(result):
                await _show(message, scope)

    def _modes(self) -> Sequence[Any]:
        if self.answer_key is not None:
            return ["tasks", "values"]
        return ["tasks", "messages"] if self.other_models else ["tasks"]

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


class _Steps:
    """The graph's tasks as the run's steps."""

    def __init__(self, scope: RunScope) -> None:
        self._scope = scope
        self._since: dict[str, float] = {}

    async def started(self, task: Mapping[str, Any]) -> None:
        self._since[task["id"]] = perf_counter()
        await self._scope.emit(StepStarted(task["id"], task["name"]))

    async def finished(self, task: Mapping[str, Any]) -> None:
        since = self._since.pop(task["id"], None)
        duration_ms = (perf_counter() - since) * 1_000 if since is not None else 0.0
        await self._scope.emit(
            StepFinished(
                task["id"],
                task["name"],
                "error" if task.get("error") else "success",
                duration_ms,
                self._scope.attempts.pop(task["name"], 1),
            )
        )


def _compiled(graph: StateGraph[Any, Any, Any, Any] | Graph, store: RunStore) -> Graph:
    if isinstance(graph, StateGraph):
        return graph.compile(store=store)
    return graph if graph.store is not None else graph.copy({"store": store})


def _answers(result: object) -> Iterator[AIMessage]:
    """Assistant messages in what a node returned."""
    if isinstance(result, AIMessage):
        yield result
    elif isinstance(result, dict):
        for value in result.values():
            yield from _answers(value)
    elif isinstance(result, list | tuple):
        for value in result:
            yield from _answers(value)


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


async def _show(message: AIMessage, scope: RunScope) -> None:
    if message.id in scope.shown:
        return
    if message.id:
        scope.shown.add(message.id)
    if message.text:
        await scope.say(message.text)
    own = {tool.name for tool in scope.input.options.tools}
    for call in tool_calls_of(message):
        if call.name in own:
            delta = ToolCallDelta(scope.caller_calls, call.id, call.name, call.arguments)
            scope.caller_calls += 1
            scope.finish_reason = "tool_calls"
            await scope.emit(delta)


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
