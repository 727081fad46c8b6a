"""What every provider behind the model service has in common."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import orjson
import pytest

from runtime.domain.errors import InvalidValue
from runtime.domain.events.runs import TextDelta, ToolCallDelta, UsageReported
from runtime.domain.services.models import (
    ModelCall,
    ModelEvent,
    ModelFinished,
    ModelService,
)
from runtime.domain.value_objects.chat import (
    ChatRole,
    GenerationOptions,
    Message,
    ToolCall,
    ToolSpec,
)
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from tests.fakes_models import ModelsOn, statuses
from tests.providers import WIRES, connected
from tests.upstream import FakeUpstream

CALCULATOR = ToolSpec(
    "calculator",
    "Works out an expression.",
    {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
)
CLOCK = ToolSpec("clock", "Tells the time.")


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture(params=["demo", *WIRES])
async def models(request: pytest.FixtureRequest, upstream: FakeUpstream) -> AsyncIterator[ModelsOn]:
    egress = EgressClient(EgressPolicy(own=[upstream.base_url]))
    tested = connected(request.param, egress, upstream)
    service = ModelsOn([tested], tested.name)
    yield service
    await service.aclose()
    await egress.aclose()


def user(text: str) -> Message:
    return Message(ChatRole.USER, text)


async def answer(
    models: ModelService,
    *messages: Message,
    options: GenerationOptions | None = None,
    stream: bool = True,
) -> list[ModelEvent]:
    call = ModelCall(None, messages, options or GenerationOptions(), stream=stream)
    return [event async for event in models.stream(call)]


def text_of(events: Sequence[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def calls_of(events: Sequence[ModelEvent]) -> list[ToolCall]:
    calls: dict[int, ToolCall] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            begun = calls.get(event.index) or ToolCall(event.call_id, event.name, "")
            calls[event.index] = ToolCall(begun.id, begun.name, begun.arguments + event.arguments)
    return [calls[index] for index in sorted(calls)]


def finish_of(events: Sequence[ModelEvent]) -> ModelFinished:
    finished = events[-1]
    assert isinstance(finished, ModelFinished)
    return finished


async def test_an_answer_is_deltas_then_usage_then_the_end(models: ModelService) -> None:
    *deltas, usage, finished = await answer(models, user("Hello there"))

    assert len(deltas) > 2
    assert all(isinstance(delta, TextDelta) for delta in deltas)
    assert isinstance(usage, UsageReported)
    assert usage.usage.input_tokens > 0
    assert usage.usage.output_tokens > 0
    assert not usage.estimated
    assert isinstance(finished, ModelFinished)
    assert finished.reason == "stop"
    assert finished.model == usage.model


async def test_an_answer_depends_on_what_was_said(models: ModelService) -> None:
    assert "Hello there" in text_of(await answer(models, user("Hello there")))


async def test_no_delta_is_empty(models: ModelService) -> None:
    events = await answer(models, user("Hello"))

    assert all(event.text for event in events if isinstance(event, TextDelta))


async def test_an_answer_in_one_piece_is_the_streamed_one(models: ModelService) -> None:
    streamed = await answer(models, user("Hello there"))
    whole = await answer(models, user("Hello there"), stream=False)

    assert len(whole) == 3
    assert text_of(whole) == text_of(streamed)
    assert whole[-2:] == streamed[-2:]


async def test_tool_calls_in_one_piece_are_the_streamed_ones(models: ModelService) -> None:
    options = GenerationOptions(tools=(CALCULATOR,))
    question = user('calculator {"expression": "6 * 7"}')
    streamed = await answer(models, question, options=options)
    whole = await answer(models, question, options=options, stream=False)

    assert calls_of(whole) == calls_of(streamed)
    assert finish_of(whole) == finish_of(streamed)


async def test_a_tool_call_comes_with_its_name_first_and_its_arguments_in_pieces(
    models: ModelService,
) -> None:
    events = await answer(
        models,
        user('calculator {"expression": "6 * 7"}'),
        options=GenerationOptions(tools=(CALCULATOR,)),
    )

    first, *others = [event for event in events if isinstance(event, ToolCallDelta)]
    assert first.call_id
    assert first.name == "calculator"
    assert len(others) >= 2
    assert not any(delta.call_id or delta.name for delta in others)
    assert orjson.loads(calls_of(events)[0].arguments) == {"expression": "6 * 7"}
    assert finish_of(events).reason == "tool_calls"


async def test_several_calls_are_told_apart_by_index(models: ModelService) -> None:
    events = await answer(
        models,
        user("calculator and clock {}"),
        options=GenerationOptions(tools=(CALCULATOR, CLOCK)),
    )

    calls = calls_of(events)
    assert [call.name for call in calls] == ["calculator", "clock"]
    assert len({call.id for call in calls}) == 2


async def test_tools_that_are_switched_off_are_not_called(models: ModelService) -> None:
    events = await answer(
        models,
        user("calculator {}"),
        options=GenerationOptions(tools=(CALCULATOR,), tool_choice="none"),
    )

    assert calls_of(events) == []
    assert finish_of(events).reason == "stop"


async def test_a_tool_result_is_answered(models: ModelService) -> None:
    called = Message(ChatRole.ASSISTANT, tool_calls=(ToolCall("c1", "calculator", "{}"),))
    result = Message(ChatRole.TOOL, "42", tool_call_id="c1")
    events = await answer(
        models,
        user("calculator {}"),
        called,
        result,
        options=GenerationOptions(tools=(CALCULATOR,)),
    )

    assert "42" in text_of(events)
    assert finish_of(events).reason == "stop"


@pytest.mark.parametrize(
    "options",
    [GenerationOptions(max_tokens=2), GenerationOptions(max_completion_tokens=2)],
    ids=["max_tokens", "max_completion_tokens"],
)
async def test_the_token_limit_ends_an_answer(
    models: ModelService, options: GenerationOptions
) -> None:
    *deltas, usage, finished = await answer(models, user("Hello there"), options=options)

    assert len(deltas) == 2
    assert isinstance(usage, UsageReported)
    assert usage.usage.output_tokens == 2
    assert isinstance(finished, ModelFinished)
    assert finished.reason == "length"


async def test_a_stop_sequence_ends_an_answer_before_itself(models: ModelService) -> None:
    everything = text_of(await answer(models, user("one two three")))
    events = await answer(models, user("one two three"), options=GenerationOptions(stop=("e tw",)))

    assert text_of(events) == everything[: everything.index("e tw")]
    assert finish_of(events).reason == "stop"


async def test_calls_at_the_same_time_do_not_mix(models: ModelService) -> None:
    answers = await asyncio.gather(*(answer(models, user(f"number {n}")) for n in range(20)))

    assert all(f"number {n}" in text_of(events) for n, events in enumerate(answers))


async def test_a_stream_may_be_left_early_and_the_next_one_is_whole(models: ModelService) -> None:
    call = ModelCall(None, [user("Hello there")])
    async with aclosing(models.stream(call)) as events:
        await anext(events)

    assert finish_of(await answer(models, user("Hello there"))).reason == "stop"


@pytest.mark.parametrize("models", WIRES, indirect=True)
async def test_leaving_a_stream_closes_its_connection_at_once(
    models: ModelsOn, upstream: FakeUpstream
) -> None:
    async with aclosing(models.stream(ModelCall(None, [user("fault:never-ending")]))) as events:
        await anext(events)

    async with asyncio.timeout(1):
        await upstream.requests[0].closed.wait()
    assert upstream.requests[0].closed_by_client


async def test_calls_may_be_limited_to_one_or_forced(models: ModelService) -> None:
    tools = (CALCULATOR, CLOCK)
    for options in (
        GenerationOptions(tools=tools, tool_choice="required"),
        GenerationOptions(tools=tools, tool_choice="calculator"),
        GenerationOptions(tools=tools, parallel_tool_calls=False),
    ):
        events = await answer(models, user("calculator {}"), options=options)
        assert [call.name for call in calls_of(events)] == ["calculator"]


async def test_an_unknown_provider_is_refused_with_the_ones_there_are(
    models: ModelsOn,
) -> None:
    (provider,) = (each.provider for each in models.health())
    with pytest.raises(InvalidValue, match=provider) as refusal:
        models.check("elsewhere/gpt")

    assert refusal.value.param == "llm_config_id"


async def test_a_provider_that_answers_is_healthy(models: ModelsOn) -> None:
    await answer(models, user("Hello"))

    assert set(statuses(models).values()) == {"healthy"}
