from collections.abc import Iterator, Mapping
from typing import Literal

from langgraph.graph import StateGraph
from pydantic import Field, JsonValue

from runtime.domain.errors import FieldProblem, InvalidConfig
from runtime.domain.services.executor import RunInput
from runtime.templates.base import ValidationResult
from runtime.templates.config import GenerationConfig
from runtime.templates.langgraph import NOSTREAM, LangGraphTemplate, to_langchain
from runtime.templates.langgraph.base import Graph
from runtime.templates.langgraph.graphs import AnyGraph, GraphSource, explain, load_graph
from runtime.templates.langgraph.tools import as_langchain
from runtime.templates.sources import ModuleRefused

MESSAGES = "messages"
EXPECTED = "package.module:attribute, a LangGraph graph or a factory of one"


class CustomConfig(GenerationConfig):
    graph: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        max_length=300,
        title="Graph",
        description=(
            "Where the graph is: package.module:attribute, in an installed package or a file of "
            "a template folder. A StateGraph, a compiled graph, or a function that returns one "
            "and takes any of model, tools and settings."
        ),
        json_schema_extra={"section": "Graph"},
    )
    settings: dict[str, JsonValue] = Field(
        default={},
        title="Settings",
        description="Handed to the function as `settings`.",
        json_schema_extra={"section": "Graph"},
    )
    input_key: str = Field(
        default=MESSAGES,
        min_length=1,
        max_length=100,
        title="Input",
        description="The key of the graph's state that a run fills.",
        json_schema_extra={"section": "Graph"},
    )
    input_as: Literal["messages", "text"] = Field(
        default="messages",
        title="Input as",
        description="messages: the conversation. text: the user's latest message.",
        json_schema_extra={"section": "Graph"},
    )
    output_key: str = Field(
        default=MESSAGES,
        min_length=1,
        max_length=100,
        title="Output",
        description=(
            "messages: the answer is what the graph's models say, as they say it. Another key: "
            "its value at the end, in one piece."
        ),
        json_schema_extra={"section": "Graph"},
    )
    tools: list[str] = Field(
        default=[],
        max_length=64,
        title="Tools",
        description="What the function gets as `tools`.",
        json_schema_extra={"section": "Tools"},
    )
    tool_timeout_s: float = Field(
        default=30,
        gt=0,
        le=3_600,
        title="Time per tool call",
        description="In seconds. A tool that takes longer has failed.",
        json_schema_extra={"section": "Tools"},
    )
    max_rounds: int = Field(
        default=50,
        ge=1,
        le=1_000,
        title="Rounds",
        description="Most rounds of the graph in one run; one more is an error.",
        json_schema_extra={"section": "Graph"},
    )


class CustomTemplate(LangGraphTemplate[CustomConfig]):
    """A LangGraph graph of your own, from a package or a template folder."""

    template_id = "custom-agent"
    template_name = "Your own graph"
    agent_type = "custom"
    other_models = True
    Config = CustomConfig

    @classmethod
    def validate_config(cls, config: Mapping[str, object]) -> ValidationResult:
        result = super().validate_config(config)
        if not result.valid:
            return result
        parsed = CustomConfig.model_validate(result.config)
        try:
            problems = list(_problems(parsed, load_graph(parsed.graph)))
        except ModuleRefused as error:
            problems = [FieldProblem("graph", str(error), EXPECTED)]
        return ValidationResult(valid=False, config={}, errors=problems) if problems else result

    def build_graph(self) -> Graph:
        config = self.config
        self.answer_key = None if config.output_key == MESSAGES else config.output_key
        try:
            source = load_graph(config.graph)
            if problems := list(_problems(config, source)):
                raise InvalidConfig(problems)
            graph = source.build(self._available(source))
        except ModuleRefused as error:
            raise InvalidConfig([FieldProblem("graph", str(error), EXPECTED)]) from error
        if problems := list(_key_problems(config, graph)):
            raise InvalidConfig(problems)
        return _compiled(graph)

    def round_limit(self) -> int:
        return self.config.max_rounds

    def graph_input(self, input: RunInput) -> Mapping[str, object]:
        if self.config.input_as == "messages":
            return {self.config.input_key: to_langchain(input.messages)}
        said = (message.text for message in reversed(input.messages) if message.role == "user")
        return {self.config.input_key: next(said, "")}

    def _available(self, source: GraphSource) -> Mapping[str, object]:
        config = self.config
        quiet = self.model.model_copy(update={"tags": [NOSTREAM]})
        return {
            "model": quiet if self.answer_key else self.model,
            "tools": as_langchain(self.services.tools, config.tools, config.tool_timeout_s),
            "settings": dict(config.settings),
        }


def _problems(config: CustomConfig, source: GraphSource) -> Iterator[FieldProblem]:
    for name in ("settings", "tools"):
        if getattr(config, name) and name not in source.parameters:
            yield FieldProblem(name, f"The graph has no way to take {name}", "nothing")
    if source.graph is not None:
        yield from _key_problems(config, source.graph)


def _key_problems(config: CustomConfig, graph: AnyGraph) -> Iterator[FieldProblem]:
    keys = sorted(key for key in graph.channels if not key.startswith(("__", "branch:")))
    for name in ("input_key", "output_key"):
        key = getattr(config, name)
        if key not in keys:
            problem = f"The graph's state has no key '{key}'"
            yield FieldProblem(name, problem, "one of " + ", ".join(keys), keys)


def _compiled(graph: AnyGraph) -> Graph:
    if not isinstance(graph, StateGraph):
        return graph
    try:
        return graph.compile()
    except ValueError as error:
        problem = FieldProblem("graph", f"The graph can't be compiled: {explain(error)}", EXPECTED)
        raise InvalidConfig([problem]) from error
