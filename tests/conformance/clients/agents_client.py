"""The OpenAI Agents SDK, on chat completions and on the Responses API, which is its default."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from harness import DEMO, PIXEL, REACT, UPSTREAM, absent, feature, main, unique
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel

set_tracing_disabled(True)
BOTH = 'The weather and the time in "Oslo"?'
OSLO = '"Oslo" has 700000 inhabitants.'
called = []


class City(BaseModel):
    name: str
    inhabitants: int


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    called.append(("get_weather", city))
    return f"12 degrees in {city}"


@function_tool
def get_time(city: str) -> str:
    """The time in a city."""
    called.append(("get_time", city))
    return f"noon in {city}"


def agent(
    name=DEMO,
    kind=OpenAIChatCompletionsModel,
    api_key=None,
    max_retries=0,
    settings=None,
    **options,
):
    client = AsyncOpenAI(api_key=api_key, max_retries=max_retries, timeout=30)
    model = kind(model=name, openai_client=client)
    wanted = ModelSettings(**(settings or {}))
    return Agent(name="Conformance", model=model, model_settings=wanted, **options)


def by_responses(**options):
    return agent(kind=OpenAIResponsesModel, **options)


async def ask(able, text, **options):
    return await Runner.run(able, text, **options)


async def pieces(able, text):
    streamed = Runner.run_streamed(able, text)
    found = [
        event.data.delta
        async for event in streamed.stream_events()
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)
    ]
    assert "".join(found) == streamed.final_output
    return found


async def refused(kind, able, text):
    try:
        await ask(able, text)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@feature("chat")
async def chat():
    assert "Hello" in (await ask(agent(), "Hello")).final_output


@feature("stream")
async def stream():
    found = await pieces(agent(), "count to 20")
    assert len(found) > 20
    assert "".join(found).endswith("19 20")


@feature("async")
async def several_at_once():
    able = agent()
    results = await asyncio.gather(*(ask(able, f"number {n}") for n in range(8)))
    for n, result in enumerate(results):
        assert f"number {n}" in result.final_output


@feature("usage")
async def usage():
    counted = (await ask(agent(), "count to 10")).context_wrapper.usage
    assert counted.output_tokens >= 10
    assert counted.total_tokens == counted.input_tokens + counted.output_tokens


@feature("stream_usage")
async def stream_usage():
    streamed = Runner.run_streamed(agent(settings={"include_usage": True}), "count to 10")
    async for _ in streamed.stream_events():
        pass
    assert streamed.context_wrapper.usage.output_tokens >= 10


@feature("system")
async def system():
    result = await ask(agent(instructions="Be a pirate."), "What is your system prompt?")
    assert "pirate" in result.final_output


@feature("turns")
async def turns():
    session = SQLiteSession("names")
    await ask(agent(), "My name is Ada.", session=session)
    assert "Ada" in (await ask(agent(), "What is my name?", session=session)).final_output


@feature("tool_call")
async def tool_call():
    called.clear()
    await ask(agent(tools=[get_weather]), 'The weather in "Oslo"?')
    assert called == [("get_weather", "Oslo")]


@feature("tool_stream")
async def tool_stream():
    called.clear()
    await pieces(agent(tools=[get_weather, get_time]), BOTH)
    assert sorted(called) == [("get_time", "Oslo"), ("get_weather", "Oslo")]


@feature("tool_parallel")
async def tool_parallel():
    for parallel, count in ((True, 2), (False, 1)):
        called.clear()
        settings = {"parallel_tool_calls": parallel}
        await ask(agent(tools=[get_weather, get_time], settings=settings), BOTH)
        assert len(called) == count


@feature("tool_result")
async def tool_result():
    result = await ask(agent(tools=[get_weather]), 'The weather in "Oslo"?')
    assert "12 degrees in Oslo" in result.final_output


@feature("tool_choice")
async def tool_choice():
    able = agent(tools=[get_weather, get_time])
    for choice, text, expected in (
        ("get_time", "Hello", ["get_time"]),
        ("required", "Hello", ["get_weather"]),
        ("none", "weather", []),
    ):
        called.clear()
        settings = replace(able.model_settings, tool_choice=choice)
        await ask(able.clone(model_settings=settings), text)
        assert [name for name, _ in called] == expected


@feature("agent_tools")
async def agent_tools():
    assert "42" in (await ask(agent(REACT), "What is 6 * 7?")).final_output


@feature("structured")
async def structured():
    result = await ask(agent(output_type=City), OSLO)
    assert result.final_output == City(name="Oslo", inhabitants=700000)


@feature("structured_stream")
async def structured_stream():
    streamed = Runner.run_streamed(agent(output_type=City), OSLO)
    async for _ in streamed.stream_events():
        pass
    assert streamed.final_output == City(name="Oslo", inhabitants=700000)


@feature("images")
async def images():
    content = [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
    ]
    result = await ask(agent(), [{"role": "user", "content": content}])
    assert "1 image" in result.final_output


@feature("length")
async def length():
    result = await ask(agent(settings={"max_tokens": 5}), "count to 50")
    assert result.final_output.split()[-1] == "4"


@feature("stop")
async def stop():
    result = await ask(agent(settings={"extra_args": {"stop": ["7"]}}), "count to 50")
    assert result.final_output.strip().endswith("6")


@feature("logprobs")
async def logprobs():
    settings = {"top_logprobs": 1, "extra_args": {"logprobs": True}}
    result = await ask(agent(settings=settings), "count to 3")
    tokens = result.raw_responses[0].output[0].content[0].logprobs
    assert "".join(token.token for token in tokens) == result.final_output


@feature("sampling")
async def sampling():
    able = agent(settings={"temperature": 0.2, "top_p": 0.9, "extra_args": {"seed": 7}})
    one, other = [(await ask(able, "Hello")).final_output for _ in range(2)]
    assert one == other


@feature("stored")
async def stored():
    kept = unique("kept")
    await ask(agent(settings={"store": True, "metadata": {"topic": kept}}), kept)
    found = [each async for each in AsyncOpenAI().chat.completions.list(metadata={"topic": kept})]
    assert len(found) == 1


@feature("unknown_model")
async def unknown_model():
    error = await refused(openai.NotFoundError, agent("nobody"), "Hello")
    assert error.code == "model_not_found"


@feature("bad_key")
async def bad_key():
    await refused(openai.AuthenticationError, agent(api_key="ar_wrong"), "Hello")


@feature("bad_request")
async def bad_request():
    able = agent(settings={"temperature": 9})
    assert (await refused(openai.BadRequestError, able, "Hello")).param == "temperature"


@feature("rate_limited")
async def rate_limited():
    await refused(openai.RateLimitError, agent(UPSTREAM), "fault:rate-limited")


@feature("retry")
async def retry():
    result = await ask(agent(UPSTREAM, max_retries=2), unique("fault:busy"))
    assert "fault:busy" in result.final_output


@feature("timeout")
async def timeout():
    able = agent(UPSTREAM, settings={"extra_args": {"timeout": 0.5}})
    await refused(openai.APITimeoutError, able, "fault:slow-headers")


@feature("cancel")
async def cancel():
    streamed = Runner.run_streamed(agent(UPSTREAM), "delay:50 words:200")
    async for event in streamed.stream_events():
        if event.type == "raw_response_event":
            streamed.cancel()
    assert (await ask(agent(UPSTREAM), "Hello")).final_output


@feature("broken_stream")
async def broken_stream():
    try:
        await pieces(agent(UPSTREAM), "fault:cut")
    except openai.APIError:
        return
    raise AssertionError("no APIError")


@feature("responses")
async def responses():
    result = await ask(by_responses(instructions="Be a pirate."), "What is your system prompt?")
    assert "pirate" in result.final_output


@feature("responses_stream")
async def responses_stream():
    assert "".join(await pieces(by_responses(), "count to 20")).endswith("19 20")


@feature("responses_previous")
async def responses_previous():
    first = await ask(by_responses(), "My name is Ada.")
    second = await ask(
        by_responses(), "What is my name?", previous_response_id=first.last_response_id
    )
    assert "Ada" in second.final_output


@feature("responses_tools")
async def responses_tools():
    called.clear()
    result = await ask(by_responses(tools=[get_weather]), 'The weather in "Oslo"?')
    assert called == [("get_weather", "Oslo")]
    assert "12 degrees in Oslo" in result.final_output


@feature("responses_structured")
async def responses_structured():
    result = await ask(by_responses(output_type=City), OSLO)
    assert result.final_output == City(name="Oslo", inhabitants=700000)


@feature("conversations")
async def conversations():
    talk = OpenAIConversationsSession(openai_client=AsyncOpenAI())
    await ask(by_responses(), "My name is Ada.", session=talk)
    assert "Ada" in (await ask(by_responses(), "What is my name?", session=talk)).final_output
    assert len(await talk.get_items()) == 4
    await talk.clear_session()


@feature("session")
async def session():
    able = agent(settings={"extra_headers": {"X-Session-Id": uuid4().hex}})
    await ask(able, "My name is Ada.")
    assert "Ada" in (await ask(able, "What is my name?")).final_output


@feature("idempotency")
async def idempotency():
    kept = unique("once")
    able = agent(settings={"extra_headers": {"Idempotency-Key": uuid4().hex}})
    one, other = [(await ask(able, kept)).raw_responses[0] for _ in range(2)]
    assert one.output == other.output
    await refused(openai.UnprocessableEntityError, able, "Other")


absent("The Agents SDK has no setting and no result for it.", "choices", "json_object")
absent(
    "The Agents SDK leads to no such route.",
    *("models", "embeddings", "responses_background", "responses_stored"),
)
main()
