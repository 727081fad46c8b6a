"""Answers that fit a schema, with the OpenAI SDK, from models that keep to it and that don't."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai.lib._pydantic import to_strict_json_schema
from openai.lib.streaming.chat import AsyncChatCompletionStream
from pydantic import BaseModel, Field

from runtime.infrastructure.settings import Settings
from tests.e2e.server import Served, serving
from tests.upstream import FakeUpstream
from tests.upstream.answers import calls, says

ASKED: Any = [{"role": "user", "content": "Describe “München”, please."}]


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str
    amount: int = Field(ge=1, le=9)


class Thing(BaseModel):
    """With everything that strict mode has."""

    größe: float
    colour: Colour
    kind: Literal["tool", "toy"]
    parts: list[Part]
    note: str | None
    inner: "Thing | None"


GOOD = Thing(
    größe=1.5,
    colour=Colour.RED,
    kind="toy",
    parts=[Part(name="輪 🛞", amount=2)],
    note=None,
    inner=None,
)
TEXT = GOOD.model_dump_json()
FORM = {
    "type": "json_schema",
    "json_schema": {"name": "Thing", "strict": True, "schema": to_strict_json_schema(Thing)},
}


@dataclass
class Setup:
    runtime: Served
    upstream: FakeUpstream


@pytest.fixture(params=["json_schema", "json_object", "none"])
async def setup(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path,
            openai_base_url=upstream.base_url,
            openai_api_key="sk-test",
            openai_structured_output=request.param,
        ) as runtime,
    ):
        yield Setup(runtime, upstream)


def parsing(runtime: Served, model: str = "assistant") -> Any:  # noqa: ANN401 - the SDK's generic
    return runtime.openai.chat.completions.parse(model=model, messages=ASKED, response_format=Thing)


def streaming(runtime: Served, model: str = "assistant") -> Any:  # noqa: ANN401 - as above
    return runtime.openai.chat.completions.stream(
        model=model,
        messages=ASKED,
        response_format=Thing,
        stream_options={"include_usage": True},
    )


async def finished(stream: AsyncChatCompletionStream[Thing]) -> tuple[Any, int]:
    pieces = 0
    async for event in stream:
        pieces += event.type == "content.delta" and bool(event.delta)
    return await stream.get_final_completion(), pieces


async def test_the_demo_model_answers_in_the_caller_s_schema(runtime: Served) -> None:
    answer = await parsing(runtime)
    thing = answer.choices[0].message.parsed

    assert isinstance(thing, Thing)
    assert thing.parts
    assert thing.inner is not None


async def test_the_demo_model_streams_it(runtime: Served) -> None:
    async with streaming(runtime) as stream:
        completion, pieces = await finished(stream)

    assert isinstance(completion.choices[0].message.parsed, Thing)
    assert pieces > 3


async def test_an_answer_in_the_schema_arrives_as_it_is(setup: Setup) -> None:
    setup.upstream.script(says(TEXT))
    answer = await parsing(setup.runtime)

    assert answer.choices[0].message.parsed == GOOD
    assert answer.choices[0].message.content == TEXT
    assert len(setup.upstream.requests) == 1


async def test_the_provider_gets_what_it_can_do(setup: Setup) -> None:
    setup.upstream.script(says(TEXT))
    await parsing(setup.runtime)
    sent = setup.upstream.requests[0].json
    able = setup.runtime.container.settings().openai_structured_output

    expected = {"json_schema": "json_schema", "json_object": "json_object", "none": None}[able]
    assert sent.get("response_format", {}).get("type") == expected
    assert ("größe" in sent["messages"][0]["content"]) == (able != "json_schema")
    assert len([each for each in sent["messages"] if each["role"] == "system"]) == 1


async def test_a_bad_answer_is_repaired_once(setup: Setup) -> None:
    setup.upstream.script(says('{"größe": "big"}'), says(TEXT))
    answer = await parsing(setup.runtime)

    assert answer.choices[0].message.parsed == GOOD
    first, second = (request.json for request in setup.upstream.requests)
    told = second["messages"][-1]["content"]
    assert '"colour" is a required property' in told
    assert first["messages"][-1]["content"] == ASKED[0]["content"]
    assert second["messages"][-2] == {"role": "assistant", "content": '{"größe": "big"}'}
    assert answer.usage.total_tokens == 2 * 21


async def test_what_stays_bad_is_a_refusal(setup: Setup) -> None:
    setup.upstream.script(says("I'd rather not."), says("Really."))
    answer = await parsing(setup.runtime)
    (choice,) = answer.choices

    assert choice.message.parsed is None
    assert choice.message.content is None
    assert "not valid JSON" in choice.message.refusal
    assert choice.finish_reason == "stop"
    assert len(setup.upstream.requests) == 2


@pytest.mark.parametrize("setup", ["json_object", "none"], indirect=True)
async def test_a_stream_of_a_model_that_does_not_obey_is_checked_before_it_is_sent(
    setup: Setup,
) -> None:
    setup.upstream.script(says(f"Here:\n```json\n{TEXT}\n```"))
    async with streaming(setup.runtime) as stream:
        completion, _ = await finished(stream)
    assert completion.choices[0].message.parsed == GOOD

    setup.upstream.script(says("No."), says("No!"))
    async with streaming(setup.runtime) as stream:
        completion, pieces = await finished(stream)
    assert completion.choices[0].message.refusal
    assert completion.choices[0].finish_reason == "stop"
    assert (pieces, completion.usage.total_tokens) == (0, 2 * 21)


@pytest.mark.parametrize("setup", ["json_schema"], indirect=True)
async def test_a_stream_that_turns_out_bad_ends_with_an_error(setup: Setup) -> None:
    setup.upstream.script(says('{"größe": 1}'))
    body = {"model": "assistant", "messages": ASKED, "stream": True, "response_format": FORM}
    response = await setup.runtime.http.post("/v1/chat/completions", json=body)
    events = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]

    assert json.loads(events[-1])["error"]["code"] == "invalid_structured_output"
    assert not any('"finish_reason":"stop"' in event for event in events)
    assert len(setup.upstream.requests) == 1
    (run,) = (await setup.runtime.get("/v1/runs"))["data"]
    assert (run["status"], run["error_code"]) == ("failed", "invalid_structured_output")


async def test_an_answer_that_is_cut_is_not_repaired(setup: Setup) -> None:
    setup.upstream.script(says('{"gr', finish="length"))
    with pytest.raises(openai.LengthFinishReasonError):
        await parsing(setup.runtime)
    assert len(setup.upstream.requests) == 1


async def test_a_json_object_is_seen_to(setup: Setup) -> None:
    setup.upstream.script(says("[1]"), says('{"a": 1}'))
    answer = await setup.runtime.ask(
        "assistant", "As JSON, please", response_format={"type": "json_object"}
    )
    assert answer == '{"a": 1}'


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_with_tools_calls_them_once(setup: Setup, stream: bool) -> None:
    await setup.runtime.publish(name="Reckoner", template_id="react-agent", llm_config_id="openai")
    setup.upstream.script(
        calls("calculator", {"expression": "6 * 7"}, text="Let me see."),
        says("It is 42."),
        says(TEXT),
    )
    if stream:
        async with streaming(setup.runtime, "reckoner") as reading:
            answer, _ = await finished(reading)
    else:
        answer = await parsing(setup.runtime, "reckoner")

    assert answer.choices[0].message.parsed == GOOD
    assert answer.choices[0].message.content == TEXT
    (run,) = (await setup.runtime.get("/v1/runs"))["data"]
    assert [tool["name"] for tool in run["tools"]] == ["calculator"]
    assert len(setup.upstream.requests) == 3
    assert "tools" not in setup.upstream.requests[2].json


async def test_only_the_last_step_of_a_task_is_in_the_schema(setup: Setup) -> None:
    await setup.runtime.publish(name="Worker", template_id="task-agent", llm_config_id="openai")
    setup.upstream.script(says("A plan."), says("A draft."), says(TEXT))
    answer = await parsing(setup.runtime, "worker")

    assert answer.choices[0].message.parsed == GOOD
    plan, draft, last = (request.json for request in setup.upstream.requests)
    for inner in (plan, draft):
        assert "response_format" not in inner
        assert "größe" not in json.dumps(inner, ensure_ascii=False)
    assert "größe" in json.dumps(last, ensure_ascii=False)


async def test_a_task_that_fixes_its_json_refuses_another(runtime: Served) -> None:
    step = {"name": "answer", "instruction": "Answer.", "output": "json", "fields": ["a"]}
    await runtime.publish(name="Fixed", template_id="task-agent", template_config={"steps": [step]})
    with pytest.raises(openai.BadRequestError) as refusal:
        await parsing(runtime, "fixed")

    assert (refusal.value.code, refusal.value.param) == ("unsupported_parameter", "response_format")


async def test_every_built_in_template_answers_in_the_schema(runtime: Served) -> None:
    for template in ("langgraph-simple-test", "customer-service-bot", "react-agent", "task-agent"):
        agent = await runtime.publish(name=f"Of {template}", template_id=template)
        answer = await parsing(runtime, agent["slug"])
        assert isinstance(answer.choices[0].message.parsed, Thing), template


def test_structured_output_is_on_by_default() -> None:
    assert Settings(data_dir=Path()).openai_formats == {"json_schema", "json_object"}


LOOSE: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
BAD_FORMATS: list[tuple[dict[str, Any], str]] = [
    ({"strict": True}, "got 'type: \"None\"'"),
    ({"strict": True, "schema": LOOSE}, "'additionalProperties' is required"),
    ({"strict": True, "schema": {**LOOSE, "additionalProperties": False}}, "Missing 'a'"),
    ({"schema": {"type": "strin"}}, "context=('type',)"),
    ({"schema": {"$ref": "http://127.0.0.1:9/s.json"}}, "must be '#' or begin with '#/'"),
    ({"schema": {"pattern": "(?=a)"}}, "regex"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("asked", "why"), BAD_FORMATS, ids=range(len(BAD_FORMATS)))
async def test_a_schema_that_can_t_be_followed_is_refused(
    runtime: Served, asked: dict[str, Any], why: str, stream: bool
) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "thing", **asked}}
    with pytest.raises(openai.BadRequestError) as refusal:
        await runtime.ask("assistant", response_format=form, stream=stream)

    assert (refusal.value.code, refusal.value.param) == ("invalid_json_schema", "response_format")
    assert refusal.value.message.count("Invalid schema for response_format 'thing'") == 1
    assert why in refusal.value.message
    health = await runtime.get("/v1/health")
    assert health["metrics"]["running"] == 0
