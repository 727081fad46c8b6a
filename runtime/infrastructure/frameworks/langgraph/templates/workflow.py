"""A graph that is drawn in the configuration.

Nodes run as soon as everything before them is done. A node where several branches meet waits for
those that run in this turn: it is placed in the round that its longest way from the start gives,
and shorter ways wait for it in hidden nodes. So every way arrives in the same round, and the
node runs once.
"""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import or_
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AnyMessage, BaseMessage
from langgraph.constants import TAG_HIDDEN
from langgraph.graph import START, StateGraph
from pydantic import Field, model_validator

from runtime.domain.errors import FieldProblem, StepFailed
from runtime.domain.services.executor import RunInput
from runtime.domain.value_objects.chat import ToolCall
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.templates.config import ConfigProblems, GenerationConfig, StrictConfig
from runtime.templates.langgraph import LangGraphTemplate, to_langchain
from runtime.templates.langgraph.base import Graph
from runtime.templates.langgraph.context import labelled, sections
from runtime.templates.langgraph.tools import call_tool, granted_specs, json_text
from runtime.templates.scope import current_run

NodeId = Annotated[str, Field(pattern=r"^[^\W_][\w -]{0,63}$")]
Following = Annotated[
    list[NodeId],
    Field(
        max_length=20,
        title="Next",
        description="Nodes that run after this one, side by side. None: its text is the answer.",
    ),
]


class _Node(StrictConfig):
    id: NodeId = Field(
        title="Name",
        description="Letters, digits, spaces, '-' and '_'; shown while the node runs.",
    )


class PromptNode(_Node):
    """Asks the model."""

    kind: Literal["prompt"] = Field(title="Kind", description="prompt: asks the model.")
    instruction: str = Field(
        min_length=1,
        max_length=16_000,
        title="Instruction",
        description="What the model does here. It sees the conversation and earlier results.",
    )
    next: Following = Field(default=[])


class Rule(StrictConfig):
    words: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        min_length=1,
        max_length=100,
        title="Words",
        description="The rule holds when the latest message contains one of these.",
    )
    route: str = Field(title="Route", description="The label of the route to take then.")


class RouteNode(_Node):
    """Chooses one way to go on."""

    kind: Literal["route"] = Field(title="Kind", description="route: chooses how to go on.")
    routes: dict[Annotated[str, Field(min_length=1, max_length=64)], NodeId] = Field(
        min_length=1,
        max_length=20,
        title="Routes",
        description="A label for each way to go on, and the node it leads to.",
    )
    default: str = Field(title="Default", description="The label to take when none fits.")
    instruction: str = Field(
        default="",
        max_length=16_000,
        title="Instruction",
        description="How the model chooses a label. Empty: only the rules choose.",
    )
    rules: list[Rule] = Field(
        default=[],
        max_length=50,
        title="Rules",
        description="Tried first, in this order; the model is asked when none holds.",
    )


class Argument(StrictConfig):
    name: str = Field(min_length=1, max_length=64, title="Argument")
    source: Literal["value", "input", "node"] = Field(
        default="value",
        title="Source",
        description="A fixed value, the user's latest message, or an earlier node's result.",
    )
    value: str | bool | int | float | None = Field(
        default=None, title="Value", description="With the source 'value'."
    )
    node: NodeId | None = Field(
        default=None, title="Node", description="With the source 'node': whose result."
    )


class ToolNode(_Node):
    """Calls a tool."""

    kind: Literal["tool"] = Field(title="Kind", description="tool: calls a tool.")
    tool: str = Field(min_length=1, max_length=64, title="Tool", description="The tool's name.")
    arguments: list[Argument] = Field(default=[], max_length=50, title="Arguments")
    on_error: Literal["fail", "continue"] = Field(
        default="fail",
        title="When it fails",
        description="fail: the run ends. continue: later nodes read the error.",
    )
    next: Following = Field(default=[])


class TextNode(_Node):
    """Says something fixed."""

    kind: Literal["text"] = Field(title="Kind", description="text: a fixed text.")
    text: str = Field(min_length=1, max_length=16_000, title="Text")
    next: Following = Field(default=[])


Node = Annotated[PromptNode | RouteNode | ToolNode | TextNode, Field(discriminator="kind")]

DEFAULT_NODES: list[Node] = [
    RouteNode(
        id="triage",
        kind="route",
        instruction=(
            "Is this a question or request that deserves to be looked at from several sides "
            "(a decision, a plan, an assessment)? Then 'weigh'. Anything else: 'direct'."
        ),
        routes={"direct": "reply", "weigh": "outline"},
        default="direct",
    ),
    PromptNode(id="reply", kind="prompt", instruction="Answer the user."),
    PromptNode(
        id="outline",
        kind="prompt",
        instruction="Say in a few lines what is to be decided, and what a good answer depends on.",
        next=["arguments", "objections"],
    ),
    PromptNode(
        id="arguments",
        kind="prompt",
        instruction="List the strongest points in favour, briefly and concretely.",
        next=["conclusion"],
    ),
    PromptNode(
        id="objections",
        kind="prompt",
        instruction="List the strongest objections and risks, briefly and concretely.",
        next=["conclusion"],
    ),
    PromptNode(
        id="conclusion",
        kind="prompt",
        instruction=(
            "Weigh the arguments and objections and write the answer to the user: a clear "
            "recommendation first, then the reasons."
        ),
    ),
]


class WorkflowConfig(GenerationConfig):
    system_prompt: str = Field(
        default="You are a helpful assistant.",
        max_length=32_000,
        title="System prompt",
        description="What the model is told in every node. Empty: nothing.",
        json_schema_extra={"section": "Instructions"},
    )
    nodes: list[Node] = Field(
        default=DEFAULT_NODES,
        min_length=1,
        max_length=50,
        title="Nodes",
        description="The workflow; a run starts at the first one.",
        json_schema_extra={"section": "Workflow"},
    )
    tool_timeout_s: float = Field(
        default=30,
        gt=0,
        le=3_600,
        title="Time per tool call",
        description="In seconds. A tool that takes longer has failed.",
        json_schema_extra={"section": "Workflow"},
    )
    history_messages: int = Field(
        default=40,
        ge=1,
        le=1_000,
        title="Messages remembered",
        description="How many of the latest messages the nodes get to see.",
        json_schema_extra={"section": "Conversation"},
    )

    @model_validator(mode="after")
    def _is_a_workflow(self) -> "WorkflowConfig":
        # Each check relies on what the ones before it found in order.
        for check in (_naming_problems, _reference_problems, _shape_problems):
            if problems := list(check(self.nodes)):
                raise ConfigProblems(problems)
        return self


def _naming_problems(nodes: Sequence[Node]) -> Iterator[FieldProblem]:
    seen = set()
    for index, node in enumerate(nodes):
        if node.id in seen:
            yield FieldProblem(f"nodes.{index}.id", f"There is another node named '{node.id}'")
        seen.add(node.id)


def _reference_problems(nodes: Sequence[Node]) -> Iterator[FieldProblem]:
    ids = [node.id for node in nodes]
    for index, node in enumerate(nodes):
        root = f"nodes.{index}"
        for path, target in _references(node):
            if target not in ids:
                hint = "one of " + ", ".join(ids)
                yield FieldProblem(f"{root}.{path}", f"There is no node '{target}'", hint, ids)
        if isinstance(node, RouteNode):
            labels = list(node.routes)
            chosen = {"default": node.default} | {
                f"rules.{each}.route": rule.route for each, rule in enumerate(node.rules)
            }
            for path, label in chosen.items():
                if label not in labels:
                    hint = "one of " + ", ".join(labels)
                    problem = f"There is no route '{label}'"
                    yield FieldProblem(f"{root}.{path}", problem, hint, labels)
        if isinstance(node, ToolNode):
            yield from _argument_problems(root, node)


def _references(node: Node) -> Iterator[tuple[str, str]]:
    """Nodes that run after `node`, each under its path."""
    if isinstance(node, RouteNode):
        yield from ((f"routes.{label}", target) for label, target in node.routes.items())
    else:
        yield from ((f"next.{index}", target) for index, target in enumerate(node.next))


def _argument_problems(root: str, node: ToolNode) -> Iterator[FieldProblem]:
    names = set()
    for index, argument in enumerate(node.arguments):
        path = f"{root}.arguments.{index}"
        if argument.name in names:
            yield FieldProblem(f"{path}.name", f"'{argument.name}' is given twice")
        names.add(argument.name)
        if argument.source == "node" and argument.node is None:
            yield FieldProblem(f"{path}.node", "Say whose result is meant")
        if argument.source != "node" and argument.node is not None:
            yield FieldProblem(f"{path}.node", "Only with the source 'node'")
        if argument.source != "value" and argument.value is not None:
            yield FieldProblem(f"{path}.value", "Only with the source 'value'")


def _shape_problems(nodes: Sequence[Node]) -> Iterator[FieldProblem]:
    index = {node.id: at for at, node in enumerate(nodes)}
    plan = Plan.of(nodes)
    if plan.cycle:
        way = " → ".join(plan.cycle)
        at = index[plan.cycle[0]]
        yield FieldProblem(f"nodes.{at}", f"The workflow goes round in a circle: {way}")
        return
    for node in nodes:
        if node.id not in plan.levels:
            yield FieldProblem(f"nodes.{index[node.id]}", f"Nothing leads to '{node.id}'")
        elif isinstance(node, ToolNode):
            for each, argument in enumerate(node.arguments):
                if argument.node and argument.node not in plan.before[node.id]:
                    yield FieldProblem(
                        f"nodes.{index[node.id]}.arguments.{each}.node",
                        f"'{argument.node}' does not run before '{node.id}'",
                        allowed=sorted(plan.before[node.id]),
                    )
    if two := plan.two_answers():
        first, second = sorted(two, key=index.__getitem__)
        yield FieldProblem(
            f"nodes.{index[second]}",
            f"'{first}' and '{second}' may both run and both answer; lead them to one last node",
        )


@dataclass(frozen=True)
class Plan:
    """What follows from who leads to whom."""

    following: Mapping[str, Sequence[str]]
    routers: frozenset[str]
    start: str
    levels: Mapping[str, int]
    """The round in which each node that can be reached runs: its longest way from the start."""
    before: Mapping[str, frozenset[str]]
    """All nodes from which there is a way to a node."""
    cycle: Sequence[str]
    """A way that leads back to where it began; empty when there is none."""

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> "Plan":
        """Every name is known, and none is there twice."""
        following = {
            node.id: tuple(dict.fromkeys(target for _, target in _references(node)))
            for node in nodes
        }
        start = nodes[0].id
        order, cycle = _sorted(following)
        levels = {start: 0}
        before: dict[str, frozenset[str]] = {start: frozenset()}
        for id in order if not cycle else ():
            for target in following[id] if id in levels else ():
                levels[target] = max(levels.get(target, 0), levels[id] + 1)
                before[target] = before.get(target, frozenset()) | before[id] | {id}
        routers = frozenset(node.id for node in nodes if isinstance(node, RouteNode))
        return cls(following, routers, start, levels, before, cycle)

    def two_answers(self) -> tuple[str, str] | None:
        """Two last nodes that may run in the same turn.

        Follows two ways at once, always the one that lags behind, so that both are at a router at
        the same time if both pass it: there they have to go the same way.
        """
        waiting = [(self.start, self.start)]
        seen = set(waiting)
        while waiting:
            one, other = waiting.pop()
            if one != other and not self.following[one] and not self.following[other]:
                return one, other
            for pair in self._steps(one, other):
                if pair not in seen:
                    seen.add(pair)
                    waiting.append(pair)
        return None

    def _steps(self, one: str, other: str) -> Iterator[tuple[str, str]]:
        if one == other:
            for target in self.following[one]:
                others = (target,) if one in self.routers else self.following[one]
                yield from ((target, each) for each in others)
        elif self.following[one] and (
            not self.following[other] or self.levels[one] <= self.levels[other]
        ):
            yield from ((target, other) for target in self.following[one])
        else:
            yield from ((one, target) for target in self.following[other])


def _sorted(following: Mapping[str, Sequence[str]]) -> tuple[Sequence[str], Sequence[str]]:
    """Every node after those that lead to it; or a cycle, as the way round."""
    order: list[str] = []
    for id in following:
        if cycle := _visit(id, following, order, []):
            return (), cycle
    return order[::-1], ()


def _visit(
    id: str, following: Mapping[str, Sequence[str]], order: list[str], way: list[str]
) -> Sequence[str]:
    if id in way:
        return [*way[way.index(id) :], id]
    if id in order:
        return ()
    for target in following[id]:
        if cycle := _visit(target, following, order, [*way, id]):
            return cycle
    order.append(id)
    return ()


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
        outcome = await call_tool(self.services.tools, call, self.config.tool_timeout_s)
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
    said = (str(message.text) for message in reversed(state["conversation"]) if message.type == "human")
    return next(said, "")


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
