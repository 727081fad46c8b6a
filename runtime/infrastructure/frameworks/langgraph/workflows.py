"""Workflows as they are configured: nodes, who leads to whom, and whether that makes sense."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from runtime.domain.errors import FieldProblem
from runtime.templates.config import ConfigProblems, GenerationConfig, StrictConfig

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
