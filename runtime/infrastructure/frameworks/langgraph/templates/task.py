"""Steps in a fixed order, each a model call of its own."""

import asyncio
import re
from collections.abc import Mapping
from itertools import count, pairwise
from operator import or_
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import orjson
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langgraph.graph import START, StateGraph
from pydantic import Field, model_validator

from runtime.domain.entities.agents import Agent
from runtime.domain.errors import DomainError, FieldProblem, StepFailed
from runtime.domain.services.executor import RunInput
from runtime.templates.base import Services
from runtime.templates.config import ConfigProblems, GenerationConfig, StrictConfig
from runtime.templates.langgraph import LangGraphTemplate, to_langchain
from runtime.templates.langgraph.context import labelled, sections
from runtime.templates.scope import RunScope, current_run

LONGEST_PAUSE_S = 5.0


class Step(StrictConfig):
    name: str = Field(
        pattern=r"^[^\W_][\w .-]{0,63}$",
        title="Name",
        description="Shown while the step runs; later steps see its result under this name.",
    )
    instruction: str = Field(
        min_length=1,
        max_length=16_000,
        title="Instruction",
        description="What the model is to do in this step.",
    )
    timeout_s: float = Field(
        default=60,
        gt=0,
        le=3_600,
        title="Time per try",
        description="In seconds. A try that takes longer has failed.",
    )
    retries: int = Field(
        default=1,
        ge=0,
        le=10,
        title="Further tries",
        description="How often a failed step is tried again. Not once its text reaches the caller.",
    )
    output: Literal["text", "json"] = Field(
        default="text",
        title="Result",
        description="json: the result must parse, or the step is tried again.",
    )
    fields: list[str] = Field(
        default=[],
        max_length=100,
        title="Fields",
        description="With json: the names that the resulting object must have. Empty: any JSON.",
    )
    on_error: Literal["fail", "continue"] = Field(
        default="fail",
        title="When it fails",
        description="fail: the run ends. continue: later steps are told that it failed.",
    )


PLAN = Step(
    name="plan",
    instruction=(
        "List, in a few short lines, what a complete answer has to contain and what to watch out "
        "for. Do not answer yet."
    ),
)
DRAFT = Step(
    name="draft",
    instruction="Follow the plan and write a complete draft of the answer.",
)
ANSWER = Step(
    name="answer",
    instruction=(
        "Check the draft against the request and the plan, correct it, and write the final "
        "answer. Write only the answer, no remarks about the draft or the plan."
    ),
)


class TaskConfig(GenerationConfig):
    system_prompt: str = Field(
        default="You carry out the user's task carefully, step by step.",
        max_length=32_000,
        title="Goal",
        description="What the agent is for; the model is told so in every step.",
        json_schema_extra={"section": "Instructions"},
    )
    steps: list[Step] = Field(
        default=[PLAN, DRAFT, ANSWER],
        min_length=1,
        max_length=50,
        title="Steps",
        description="In this order. The last one's text is the answer.",
        json_schema_extra={"section": "Steps"},
    )
    history_messages: int = Field(
        default=40,
        ge=1,
        le=1_000,
        title="Messages remembered",
        description="How many of the latest messages every step gets to see.",
        json_schema_extra={"section": "Conversation"},
    )

    @model_validator(mode="after")
    def _steps_fit_together(self) -> "TaskConfig":
        names = [step.name for step in self.steps]
        problems = [
            FieldProblem(f"steps.{index}.name", f"There is another step named '{name}'")
            for index, name in enumerate(names)
            if name in names[:index]
        ]
        problems += [
            FieldProblem(f"steps.{index}.fields", "Only a step with json output has fields")
            for index, step in enumerate(self.steps)
            if step.fields and step.output != "json"
        ]
        if self.steps[-1].on_error == "continue":
            path = f"steps.{len(self.steps) - 1}.on_error"
            problems.append(FieldProblem(path, "Without the last step there is no answer", "fail"))
        if problems:
            raise ConfigProblems(problems)
        return self


_OWN_FORMAT = "the last step of this agent says what its JSON looks like."


class TaskState(TypedDict):
    conversation: list[AnyMessage]
    results: Annotated[dict[str, str], or_]
    """By step."""


class Unusable(Exception):
    """A try that gave nothing to go on with. The text says why; `wrote` is what came instead."""

    def __init__(self, why: str, wrote: str = "") -> None:
        super().__init__(why)
        self.wrote = wrote


class TaskTemplate(LangGraphTemplate[TaskConfig]):
    """Works through a task in steps that you define, each with its own time limit and tries."""

    template_id = "task-agent"
    template_name = "Task in steps"
    agent_type = "task"
    unsupported_options = dict.fromkeys(
        ("tools", "tool_choice", "parallel_tool_calls"),
        "a task agent works through its own steps and calls no tools.",
    )
    first_pause_s: ClassVar[float] = 0.2
    """Before the second try; it doubles with each further one."""
    Config = TaskConfig

    def __init__(self, config: TaskConfig, agent: Agent, services: Services) -> None:
        super().__init__(config, agent, services)
        if config.steps[-1].output == "json":
            self.unsupported_options = {**self.unsupported_options, "response_format": _OWN_FORMAT}

    def build_graph(self) -> StateGraph[Any, Any, Any, Any]:
        graph = StateGraph(TaskState)
        for step in self.config.steps:
            graph.add_node(step.name, self._node(step))
        for before, after in pairwise([START, *(step.name for step in self.config.steps)]):
            graph.add_edge(before, after)
        return graph

    def round_limit(self) -> int:
        return len(self.config.steps) + 1

    def graph_input(self, input: RunInput) -> Mapping[str, object]:
        messages = to_langchain(input.messages)
        return {
            "conversation": self.conversation(messages, last=self.config.history_messages),
            "results": {},
        }

    def _node(self, step: Step) -> Any:  # noqa: ANN401 - langgraph types nodes by their state
        async def node(state: TaskState) -> dict[str, Any]:
            try:
                result = await self._tried(step, state, current_run())
            except DomainError as error:
                if step.on_error == "fail":
                    raise
                result = f"(This step failed: {error})"
            return {"results": {step.name: result}}

        return node

    async def _tried(self, step: Step, state: TaskState, scope: RunScope) -> str:
        """Raises StepFailed; the provider's refusal or failure as it is."""
        messages = self._messages(step, state)
        for attempt in count(1):
            scope.attempts[step.name] = attempt
            last = attempt > step.retries
            try:
                return await self._try(step, messages)
            except Unusable as problem:
                if last or scope.spoke:
                    raise StepFailed(step.name, attempt, str(problem)) from problem
                messages = _corrected(messages, problem)
            except DomainError as error:
                if last or scope.spoke or not error.retryable:
                    raise
            await asyncio.sleep(min(self.first_pause_s * 2 ** (attempt - 1), LONGEST_PAUSE_S))
        raise AssertionError("the last try returns or raises")

    async def _try(self, step: Step, messages: list[BaseMessage]) -> str:
        model = self.model if step is self.config.steps[-1] else self.model.quiet
        limit = asyncio.timeout(step.timeout_s)
        try:
            async with limit:
                text = str((await model.ainvoke(messages)).text)
        except TimeoutError:
            if limit.expired():
                raise Unusable(f"It took more than {step.timeout_s:g} s.") from None
            raise
        if step.output == "json":
            _check_json(text, step.fields)
        return text

    def _messages(self, step: Step, state: TaskState) -> list[BaseMessage]:
        names = ", ".join(each.name for each in self.config.steps)
        system = sections(
            self.config.system_prompt,
            f"You work in steps: {names}. Do now only the step '{step.name}':\n{step.instruction}",
            _format(step),
            labelled(state["results"]),
        )
        return self.conversation(state["conversation"], system=system)


def _format(step: Step) -> str:
    if step.output == "text":
        return ""
    if not step.fields:
        return "Answer with JSON and nothing else."
    return f"Answer with one JSON object and nothing else. Its fields: {', '.join(step.fields)}."


def _check_json(text: str, fields: list[str]) -> None:
    """Raises Unusable. A code fence around the JSON is forgiven."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*(.*?)\s*```\s*", text, re.DOTALL)
    try:
        value = orjson.loads(fenced[1] if fenced else text)
    except orjson.JSONDecodeError as error:
        raise Unusable(f"The result is no valid JSON: {error}.", text) from None
    if not fields:
        return
    if not isinstance(value, dict):
        raise Unusable("The result is no JSON object.", text)
    if missing := [name for name in fields if name not in value]:
        raise Unusable(f"The result lacks the fields {', '.join(missing)}.", text)


def _corrected(messages: list[BaseMessage], problem: Unusable) -> list[BaseMessage]:
    """The conversation with what went wrong, so that the next try does better."""
    if not problem.wrote:
        return messages
    request = f"That can't be used. {problem} Write the whole result again, corrected."
    return [*messages, AIMessage(problem.wrote), HumanMessage(request)]
