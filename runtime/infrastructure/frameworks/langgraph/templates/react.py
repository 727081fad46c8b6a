from collections.abc import Mapping
from typing import Any, cast

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import Field

from runtime.domain.errors import InvalidValue, IterationLimit
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.services.tools import ToolOutcome
from runtime.domain.value_objects.chat import ToolCall
from runtime.templates.langgraph import LangGraphTemplate
from runtime.templates.langgraph.messages import to_langchain, tool_calls_of
from runtime.templates.langgraph.recall import RecallingConfig, recalled
from runtime.templates.langgraph.tools import granted_specs, side_by_side
from runtime.templates.scope import RunScope, current_run


class ReactConfig(RecallingConfig):
    system_prompt: str = Field(
        default=(
            "You are a helpful assistant. Use your tools whenever they give a better answer than "
            "your memory, and tell the user the result, not how you got it."
        ),
        max_length=32_000,
        title="System prompt",
        description="What the model is told before every conversation. Empty: nothing.",
        json_schema_extra={"section": "Instructions"},
    )
    tools: list[str] = Field(
        default=["calculator", "current_time"],
        max_length=64,
        title="Tools",
        description="What the agent may call. It can call nothing else.",
        json_schema_extra={"section": "Tools"},
    )
    max_iterations: int = Field(
        default=8,
        ge=1,
        le=100,
        title="Rounds",
        description="How often the model is asked in one run; one more is an error.",
        json_schema_extra={"section": "Tools"},
    )
    tool_timeout_s: float = Field(
        default=30,
        gt=0,
        le=3_600,
        title="Time per tool call",
        description="In seconds. A tool that takes longer is reported to the model as failed.",
        json_schema_extra={"section": "Tools"},
    )
    parallel: bool = Field(
        default=True,
        title="Calls at the same time",
        description="Run the calls of one round side by side; otherwise one after the other.",
        json_schema_extra={"section": "Tools"},
    )
    history_messages: int = Field(
        default=40,
        ge=1,
        le=1_000,
        title="Messages remembered",
        description="How many of the messages before this turn the model gets to see.",
        json_schema_extra={"section": "Conversation"},
    )


class ReactState(MessagesState):
    rounds: int
    """Model calls so far."""
    known: str | None
    """What is told from earlier conversations; None until it was looked up."""


class ReactTemplate(LangGraphTemplate[ReactConfig]):
    """An agent that uses tools: it thinks, calls them, reads the results, and then answers."""

    template_id = "react-agent"
    template_name = "Agent with tools"
    agent_type = "conversation"
    Config = ReactConfig

    def build_graph(self) -> StateGraph[Any, Any, Any, Any]:
        tools = tuple(dict.fromkeys(self.config.tools))
        specs = granted_specs(self.services.tools, tools, "tools")
        self._granted = frozenset(tools)
        self._asked = self.model.bind_tools(specs) if specs else self.model
        graph = StateGraph(ReactState)
        graph.add_node("model", self._ask)
        graph.add_node("tools", self._run_tools)
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", self._after_model, ["tools", END])
        graph.add_edge("tools", "model")
        return graph

    def obeys(self, response_format: Mapping[str, object]) -> bool:
        """What it says before it calls a tool is no part of the answer, and is known too late."""
        return not self._granted and super().obeys(response_format)

    def round_limit(self) -> int:
        return 2 * self.config.max_iterations + 1

    def graph_input(self, input: RunInput) -> Mapping[str, object]:
        messages = to_langchain(input.messages)
        return {
            "messages": self.conversation(messages, last=self.config.history_messages),
            "rounds": 0,
            "known": None if self.config.long_term_memory else "",
        }

    def restore(self, state: Mapping[str, Any], scope: RunScope) -> None:
        scope.called_own_tools = state.get("rounds", 0) > 0

    async def run(self, input: RunInput, emit: Emit) -> None:
        for tool in input.options.tools:
            if tool.name in self._granted:
                raise InvalidValue(
                    f"The agent has a tool named '{tool.name}' of its own; give yours another "
                    "name.",
                    param="tools",
                )
        await super().run(input, emit)

    async def _ask(self, state: ReactState) -> dict[str, Any]:
        known = state["known"]
        if known is None:
            known = await recalled(self.memory(), state["messages"])
        system = "\n\n".join(part for part in (self.config.system_prompt, known) if part)
        messages = self.conversation(state["messages"], system=system)
        answer = await self._asked.ainvoke(messages)
        rounds = state["rounds"] + 1
        if rounds >= self.config.max_iterations and _wants_own_tools(answer):
            raise IterationLimit(self.config.max_iterations)
        return {"messages": [answer], "rounds": rounds, "known": known}

    def _after_model(self, state: ReactState) -> str:
        return "tools" if _wants_own_tools(_last_answer(state)) else END

    async def _run_tools(self, state: ReactState) -> dict[str, Any]:
        answer = _last_answer(state)
        scope = current_run()
        if answer.text:
            await scope.say("\n\n")
        broken = {call["id"] for call in answer.invalid_tool_calls}
        calls = tool_calls_of(answer)
        if self.config.parallel:
            results = await side_by_side([self._result(call, call.id in broken) for call in calls])
        else:
            results = [await self._result(call, call.id in broken) for call in calls]
        scope.called_own_tools = True
        return {"messages": results}

    async def _result(self, call: ToolCall, broken: bool) -> ToolMessage:
        if call.name not in self._granted:
            names = ", ".join(sorted(self._granted)) or "none"
            text = f"There is no tool '{call.name}'. The tools there are: {names}."
            outcome = ToolOutcome("error", text)
        elif broken:
            text = f"The arguments of '{call.name}' are not a complete JSON object; call it again."
            outcome = ToolOutcome("error", text)
        else:
            outcome = await self.call_tool(call, timeout_s=self.config.tool_timeout_s)
        return ToolMessage(outcome.output, tool_call_id=call.id, status=outcome.status)


def _last_answer(state: ReactState) -> AIMessage:
    return cast(AIMessage, state["messages"][-1])


def _wants_own_tools(answer: AIMessage) -> bool:
    """Not when one of the calls is for the caller to make: then the turn is theirs."""
    theirs = {tool.name for tool in current_run().input.options.tools}
    calls = tool_calls_of(answer)
    return bool(calls) and not any(call.name in theirs for call in calls)
