"""Which agents keep to a format by themselves, and which of their model calls are in it."""

from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph

from runtime.domain.value_objects.chat import GenerationOptions
from runtime.infrastructure.frameworks.langgraph.templates.react import ReactTemplate
from runtime.infrastructure.frameworks.langgraph.templates.simple import SimpleTemplate
from runtime.infrastructure.frameworks.langgraph.templates.task import TaskTemplate
from runtime.infrastructure.frameworks.langgraph.templates.workflow import WorkflowTemplate
from runtime.templates.base import BaseAgentTemplate
from runtime.templates.config import StrictConfig
from runtime.templates.langgraph import LangGraphTemplate
from tests.fakes_models import ScriptedModels, asks, calls, events_of, made, says

FORM: dict[str, Any] = {"type": "json_object"}
IN_FORM = GenerationOptions(response_format=FORM)
TALK = {"id": "talk", "kind": "prompt", "instruction": "Talk."}
TEXT = {"id": "text", "kind": "text", "text": "Fixed."}
CHOICE = {"id": "choice", "kind": "route", "instruction": "Choose.", "default": "talk"}


def choosing(*targets: str) -> dict[str, object]:
    return {**CHOICE, "routes": {target: target for target in targets}, "default": targets[0]}


@pytest.mark.parametrize(
    ("template", "config", "obeys"),
    [
        (SimpleTemplate, {}, True),
        (TaskTemplate, {}, True),
        (ReactTemplate, {"tools": []}, True),
        (ReactTemplate, {"tools": ["calculator"]}, False),
        (WorkflowTemplate, {"nodes": [TALK]}, True),
        (WorkflowTemplate, {"nodes": [{**TALK, "next": ["text"]}, TEXT]}, False),
        (
            WorkflowTemplate,
            {"nodes": [choosing("talk", "more"), TALK, {**TALK, "id": "more"}]},
            False,
        ),
    ],
)
def test_an_agent_obeys_where_only_an_obedient_model_speaks(
    template: type[BaseAgentTemplate], config: dict[str, object], obeys: bool
) -> None:
    models = ScriptedModels()
    agent = made(template, models, **config)

    assert agent.obeys(FORM) == obeys
    models.obedient = False
    assert not agent.obeys(FORM)


async def test_only_the_last_step_of_a_task_is_in_the_format() -> None:
    models = ScriptedModels(says("plan"), says("draft"), says("{}"))
    await events_of(made(TaskTemplate, models), asks("Do it.", options=IN_FORM))

    assert [call.options.response_format for call in models.calls] == [None, None, FORM]


async def test_choosing_a_branch_is_not_in_the_format() -> None:
    models = ScriptedModels(says("talk"), says("{}"))
    nodes = [choosing("talk", "text"), TALK, TEXT]
    await events_of(made(WorkflowTemplate, models, nodes=nodes), asks("Go.", options=IN_FORM))

    assert [call.options.response_format for call in models.calls] == [None, FORM]


async def test_every_round_of_an_agent_with_tools_may_be_the_answer() -> None:
    models = ScriptedModels(calls(("calculator", '{"expression": "1+1"}')), says("{}"))
    await events_of(made(ReactTemplate, models), asks("1+1?", options=IN_FORM))

    assert [call.options.response_format for call in models.calls] == [FORM, FORM]


def test_a_task_whose_last_step_is_json_takes_no_other_format() -> None:
    step = {"name": "a", "instruction": "Do.", "output": "json"}
    text = {"name": "b", "instruction": "Do."}

    def refused(*steps: dict[str, str]) -> bool:
        agent = made(TaskTemplate, ScriptedModels(), steps=list(steps))
        return "response_format" in agent.unsupported_options

    assert refused(text, step)
    assert not refused(step, text)


class OwnFormat(LangGraphTemplate["OwnFormat.Config"]):
    """Two calls, of which the second is the answer."""

    template_id = "own-format"
    template_name = "Own format"

    class Config(StrictConfig):
        response_format: dict[str, Any] = FORM

    def build_graph(self) -> StateGraph[Any, Any, Any, Any]:
        async def answer(state: MessagesState) -> dict[str, Any]:
            await self.model.quiet.ainvoke(state["messages"])
            return {"messages": [await self.model.ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("answer", answer)
        graph.add_edge(START, "answer")
        return graph


async def test_a_format_that_the_configuration_fixes_is_for_the_answer_alone() -> None:
    models = ScriptedModels(says("thoughts"), says("{}"))
    await events_of(made(OwnFormat, models), asks("Go."))

    assert [call.options.response_format for call in models.calls] == [None, FORM]
