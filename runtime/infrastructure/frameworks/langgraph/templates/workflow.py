"""A graph that is drawn in the configuration.

Nodes run as soon as everything before them is done. A node where several branches meet waits for
those that run in this turn: it is placed in the round that its longest way from the start gives,
and shorter ways wait for it in hidden nodes. So every way arrives in the same round, and the
node runs once.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from operator import or_
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage, BaseMessage
from langgraph.constants import TAG_HIDDEN
from langgraph.graph import START, StateGraph

from runtime.domain.errors import StepFailed
from runtime.domain.services.executor import RunInput
from runtime.domain.value_objects.chat import ToolCall
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.infrastructure.frameworks.langgraph.workflows import (
    Argument,
    Node,
    Plan,
    PromptNode,
    RouteNode,
    TextNode,
    ToolNode,
    WorkflowConfig,
)
from runtime.templates.langgraph import LangGraphTemplate, to_langchain
from runtime.templates.langgraph.base import Graph
from runtime.templates.langgraph.context import labelled, sections
from runtime.templates.langgraph.tools import granted_specs, json_text
from runtime.templates.scope import current_run


class WorkflowState(TypedDict):
    conversation: list[AnyMessage]
    results: Annotated[dict[str, str], or_]
    """By node; of a router, the label it chose."""


class WorkflowTemplate(LangGraphTemplate[WorkflowConfig]):
    """A workflow that you draw: prompts, choices between routes, parallel branches and tools."""

    template_id = "workflow-agent"
    template_name = "Workflow"
    agent_type = "workflow"
    unsupported_options = dict.fromkeys(
        ("tools", "tool_choice", "parallel_tool_calls"),
        "a workflow calls the tools that its nodes name, and no others.",
    )
    Config = WorkflowConfig

    @classmethod
    def granted_tools(cls, config: WorkflowConfig) -> Mapping[str, str]:
        return {
            f"nodes.{index}.tool": node.tool
            for index, node in enumerate(config.nodes)
            if isinstance(node, ToolNode)
        }

    def build_graph(self) -> Graph:
        for path, tool in self.granted_tools(self.config).items():
            granted_specs(self.services.tools, [tool], path)
        self._plan = Plan.of(self.config.nodes)
        graph = StateGraph(WorkflowState)
        for node in self.config.nodes:
            graph.add_node(node.id, self._runner(node))
        graph.add_edge(START, self._plan.start)
        hidden: list[str] = []
        for node in self.config.nodes:
            self._connect(graph, node, hidden)
        compiled = graph.compile()
        for id in hidden:
            compiled.nodes[id].tags = [TAG_HIDDEN]
        return compiled

    def obeys(self, response_format: Mapping[str, object]) -> bool:
        """Where it has one end, and the model speaks there."""
        ends = [node for node in self.config.nodes if not self._plan.following[node.id]]
        alone = len(ends) == 1 and isinstance(ends[0], PromptNode)
        return alone and super().obeys(response_format)

    def round_limit(self) -> int:
        return len(self.config.nodes) + 1

    def graph_input(self, input: RunInput) -> Mapping[str, object]:
        messages = to_langchain(input.messages)
        return {
            "conversation": self.conversation(messages, last=self.config.history_messages),
            "results": {},
        }

    def _connect(
        self, graph: StateGraph[Any, Any, Any, Any], node: Node, hidden: list[str]
    ) -> None:
        entries = {
            target: self._entry(graph, self._plan.levels[node.id] + 1, target, hidden)
            for target in self._plan.following[node.id]
        }
        if isinstance(node, RouteNode):
            ways: dict[Hashable, str]
            ways = {label: entries[target] for label, target in node.routes.items()}
            graph.add_conditional_edges(node.id, lambda state: state["results"][node.id], ways)
        else:
            for entry in entries.values():
                graph.add_edge(node.id, entry)

    def _entry(
        self, graph: StateGraph[Any, Any, Any, Any], level: int, target: str, hidden: list[str]
    ) -> str:
        """The node to lead to at `level`, so that `target` runs at its own."""
        if level == self._plan.levels[target]:
            return target
        id = f"_until {level} {target}"
        if id not in hidden:
            hidden.append(id)
            graph.add_node(id, _wait)
            graph.add_edge(id, self._entry(graph, level + 1, target, hidden))
        return id

    def _runner(self, node: Node) -> Any:  # noqa: ANN401 - langgraph types nodes by their state
        async def run(state: WorkflowState) -> dict[str, Any]:
            result = await self._result(node, state)
            if not isinstance(node, PromptNode) and not self._plan.following[node.id]:
                await current_run().say(result)
            return {"results": {node.id: result}}

        return run

    async def _result(self, node: Node, state: WorkflowState) -> str:
        match node:
            case PromptNode():
                return await self._ask(node, state)
            case RouteNode():
                return await self._choose(node, state)
            case ToolNode():
                return await self._call(node, state)
            case TextNode():
                return node.text

    async def _ask(self, node: PromptNode, state: WorkflowState) -> str:
        model = self.model.quiet if node.next else self.model
        answer = await model.ainvoke(self._messages(node.id, node.instruction, state))
        return str(answer.text)

    async def _choose(self, node: RouteNode, state: WorkflowState) -> str:
        asked = _latest(state).casefold()
        for rule in node.rules:
            if any(word.casefold() in asked for word in rule.words):
                return rule.route
        if not node.instruction:
            return node.default
        request = sections(
            node.instruction,
            "Answer with exactly one of these labels and nothing else:\n" + "\n".join(node.routes),
        )
        answer = await self.model.quiet.ainvoke(self._messages(node.id, request, state))
        return label_in(answer.text, list(node.routes)) or node.default

    async def _call(self, node: ToolNode, state: WorkflowState) -> str:
        arguments = {each.name: _argument(each, state) for each in node.arguments}
        call = ToolCall(f"call_{uuid7_hex()}", node.tool, json_text(arguments))
        outcome = await self.call_tool(call, timeout_s=self.config.tool_timeout_s)
        if outcome.status == "error" and (node.on_error == "fail" or not node.next):
            raise StepFailed(node.id, 1, outcome.output)
        return outcome.output

    def _messages(self, id: str, instruction: str, state: WorkflowState) -> list[BaseMessage]:
        earlier = {
            name: text for name, text in state["results"].items() if name in self._plan.before[id]
        }
        system = sections(self.config.system_prompt, instruction, labelled(earlier))
        return self.conversation(state["conversation"], system=system)


async def _wait(state: WorkflowState) -> None:
    """Keeps a shorter way back by one round."""


def _latest(state: WorkflowState) -> str:
    """What the user said last."""
    said = (message for message in reversed(state["conversation"]) if message.type == "human")
    latest = next(said, None)
    return str(latest.text) if latest else ""


def _argument(argument: Argument, state: WorkflowState) -> object:
    match argument.source:
        case "input":
            return _latest(state)
        case "node":
            return state["results"].get(argument.node or "", "")
    return argument.value


def label_in(text: str, labels: Sequence[str]) -> str | None:
    """The label that a model means, however it wraps it; None when that is not clear."""
    plain = text.strip().strip("\"'`*.:!()[]{} \n").casefold()
    if exact := [label for label in labels if label.casefold() == plain]:
        return exact[0]
    # Longest first, each taken out of the text: `refund status` is not also `refund`.
    rest, found = text.casefold(), []
    for label in sorted(labels, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(label.casefold())}(?!\w)"
        rest, times = re.subn(pattern, " ", rest)
        if times:
            found.append(label)
    return found[0] if len(found) == 1 else None
