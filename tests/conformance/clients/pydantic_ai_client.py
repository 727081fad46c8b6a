"""Pydantic AI: OpenAIChatModel, OpenAIResponsesModel, Embedder."""

import asyncio
from uuid import uuid4

from harness import DEMO, PIXEL, REACT, UPSTREAM, absent, feature, main, raised, unique
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    Embedder,
    ImageUrl,
    ModelAPIError,
    ModelHTTPError,
    NativeOutput,
    PromptedOutput,
    ToolOutput,
)
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelRateLimitError, ModelTimeoutError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

BOTH = 'The weather and the time in "Oslo"?'
OSLO = '"Oslo" has 700000 inhabitants.'


class City(BaseModel):
    name: str
    inhabitants: int


def get_weather(city: str) -> str:
    """The weather in a city."""
    called.append(("get_weather", city))
    return f"12 degrees in {city}"


def get_time(city: str) -> str:
    """The time in a city."""
    called.append(("get_time", city))
    return f"noon in {city}"


called = []


def agent(name=DEMO, kind=OpenAIChatModel, api_key=None, max_retries=0, **options):
    client = AsyncOpenAI(api_key=api_key, max_retries=max_retries, timeout=30)
    return Agent(kind(name, provider=OpenAIProvider(openai_client=client)), **options)


def by_responses(**options):
    return agent(kind=OpenAIResponsesModel, **options)


async def pieces(able, text, **options):
    async with able.run_stream(text, **options) as result:
        return [piece async for piece in result.stream_text(delta=True, debounce_by=None)]


@feature("chat")
def chat():
    result = agent().run_sync("Hello")
    assert "Hello" in result.output
    assert result.response.model_name == DEMO
    assert result.response.finish_reason == "stop"


@feature("stream")
async def stream():
    found = await pieces(agent(), "count to 20")
    assert len(found) > 15
    assert "".join(found).endswith("19 20")


@feature("async")
async def several_at_once():
    able = agent()
    for n, result in enumerate(await asyncio.gather(*(able.run(f"number {n}") for n in range(8)))):
        assert f"number {n}" in result.output


@feature("usage")
def usage():
    counted = agent().run_sync("count to 10").response.usage
    assert counted.input_tokens >= 3
    assert counted.output_tokens >= 10


@feature("stream_usage")
async def stream_usage():
    async with agent().run_stream("count to 10") as result:
        await result.get_output()
        assert result.response.usage.output_tokens >= 10


@feature("system")
def system():
    for options in ({"system_prompt": "Be a pirate."}, {"instructions": "Be a pirate."}):
        assert "pirate" in agent(**options).run_sync("What is your system prompt?").output


@feature("turns")
def turns():
    first = agent().run_sync("My name is Ada.")
    second = agent().run_sync("What is my name?", message_history=first.all_messages())
    assert "Ada" in second.output


@feature("tool_call")
def tool_call():
    called.clear()
    agent(tools=[get_weather]).run_sync('The weather in "Oslo"?')
    assert called == [("get_weather", "Oslo")]


@feature("tool_stream")
async def tool_stream():
    called.clear()
    found = await pieces(agent(tools=[get_weather, get_time]), BOTH)
    assert sorted(called) == [("get_time", "Oslo"), ("get_weather", "Oslo")]
    assert found


@feature("tool_parallel")
def tool_parallel():
    able = agent(tools=[get_weather, get_time])
    for parallel, count in ((True, 2), (False, 1)):
        called.clear()
        able.run_sync(BOTH, model_settings={"parallel_tool_calls": parallel})
        assert len(called) == count


@feature("tool_result")
def tool_result():
    result = agent(tools=[get_weather]).run_sync('The weather in "Oslo"?')
    assert "12 degrees in Oslo" in result.output


@feature("tool_choice")
def tool_choice():
    called.clear()
    able = agent(tools=[get_weather, get_time])
    able.run_sync("weather", model_settings={"tool_choice": "none"})
    assert called == []
    forced = agent(output_type=ToolOutput(City, name="city")).run_sync(OSLO)
    assert forced.output == City(name="Oslo", inhabitants=700000)


@feature("agent_tools")
def agent_tools():
    assert "42" in agent(REACT).run_sync("What is 6 * 7?").output


@feature("structured")
def structured():
    for output in (City, NativeOutput(City)):
        result = agent(output_type=output).run_sync(OSLO)
        assert result.output == City(name="Oslo", inhabitants=700000)


@feature("structured_stream")
async def structured_stream():
    async with agent(output_type=NativeOutput(City)).run_stream(OSLO) as result:
        *_, last = [each async for each in result.stream_output(debounce_by=None)]
    assert last == City(name="Oslo", inhabitants=700000)


@feature("json_object")
def json_object():
    class Answer(BaseModel):
        answer: str

    result = agent(output_type=PromptedOutput(Answer)).run_sync("Say it in JSON")
    assert isinstance(result.output, Answer)


@feature("images")
def images():
    assert "1 image" in agent().run_sync(["Look", ImageUrl(PIXEL)]).output


@feature("length")
def length():
    result = agent().run_sync("count to 50", model_settings={"max_tokens": 5})
    assert result.response.finish_reason == "length"


@feature("stop")
def stop():
    result = agent().run_sync("count to 50", model_settings={"stop_sequences": ["7"]})
    assert result.output.strip().endswith("6")


@feature("logprobs")
def logprobs():
    result = agent().run_sync(
        "count to 3", model_settings={"openai_logprobs": True, "openai_top_logprobs": 1}
    )
    tokens = result.response.provider_details["logprobs"]
    assert "".join(token["token"] for token in tokens) == result.output


@feature("sampling")
def sampling():
    settings = {"seed": 7, "temperature": 0.2, "top_p": 0.9}
    one, other = (agent().run_sync("Hello", model_settings=settings) for _ in range(2))
    assert one.output == other.output


@feature("stored")
async def stored():
    kept = unique("kept")
    result = await agent().run(kept, model_settings={"openai_store": True})
    found = await AsyncOpenAI().chat.completions.retrieve(result.response.provider_response_id)
    assert found.choices[0].message.content == result.output


@feature("unknown_model")
def unknown_model():
    error = raised(ModelHTTPError, lambda: agent("nobody").run_sync("Hello"))
    assert error.status_code == 404
    assert error.body["code"] == "model_not_found"


@feature("bad_key")
def bad_key():
    error = raised(ModelHTTPError, lambda: agent(api_key="ar_wrong").run_sync("Hello"))
    assert error.status_code == 401


@feature("bad_request")
def bad_request():
    error = raised(
        ModelHTTPError, lambda: agent().run_sync("Hello", model_settings={"temperature": 9})
    )
    assert error.body["param"] == "temperature"


@feature("rate_limited")
def rate_limited():
    raised(ModelRateLimitError, lambda: agent(UPSTREAM).run_sync("fault:rate-limited"))


@feature("retry")
def retry():
    result = agent(UPSTREAM, max_retries=2).run_sync(unique("fault:busy"))
    assert "fault:busy" in result.output


@feature("timeout")
def timeout():
    raised(
        ModelTimeoutError,
        lambda: agent(UPSTREAM).run_sync("fault:slow-headers", model_settings={"timeout": 0.5}),
    )


@feature("cancel")
async def cancel():
    able = agent(UPSTREAM)
    async with able.run_stream("delay:50 words:200") as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            break
    assert (await able.run("Hello")).output


@feature("broken_stream")
async def broken_stream():
    try:
        await pieces(agent(UPSTREAM), "fault:cut")
    except ModelAPIError:
        return
    raise AssertionError("no ModelAPIError")


@feature("embeddings")
async def embeddings():
    provider = OpenAIProvider(openai_client=AsyncOpenAI())
    able = Embedder(OpenAIEmbeddingModel("text-embedding-3-small", provider=provider))
    one, other = (await able.embed_documents(["one", "other"])).embeddings
    assert len(one) == len(other) > 100


@feature("responses")
def responses():
    result = by_responses(instructions="Be a pirate.").run_sync("What is your system prompt?")
    assert "pirate" in result.output
    assert result.response.finish_reason == "stop"


@feature("responses_stream")
async def responses_stream():
    assert "".join(await pieces(by_responses(), "count to 20")).endswith("19 20")


@feature("responses_previous")
def responses_previous():
    settings = {"openai_previous_response_id": "auto"}
    first = by_responses().run_sync("My name is Ada.")
    second = by_responses().run_sync(
        "What is my name?", message_history=first.all_messages(), model_settings=settings
    )
    assert "Ada" in second.output


@feature("responses_tools")
def responses_tools():
    result = by_responses(tools=[get_weather]).run_sync('The weather in "Oslo"?')
    assert "12 degrees in Oslo" in result.output


@feature("responses_structured")
def responses_structured():
    result = by_responses(output_type=NativeOutput(City)).run_sync(OSLO)
    assert result.output == City(name="Oslo", inhabitants=700000)


@feature("responses_background")
def responses_background():
    result = by_responses().run_sync("count to 5", model_settings={"openai_background": True})
    assert result.output.endswith("4 5")


@feature("conversations")
async def conversations():
    talk = await AsyncOpenAI().conversations.create()
    settings = {"openai_conversation_id": talk.id}
    await by_responses().run("My name is Ada.", model_settings=settings)
    result = await by_responses().run("What is my name?", model_settings=settings)
    assert "Ada" in result.output


@feature("session")
def session():
    settings = {"extra_headers": {"X-Session-Id": uuid4().hex}}
    agent().run_sync("My name is Ada.", model_settings=settings)
    assert "Ada" in agent().run_sync("What is my name?", model_settings=settings).output


@feature("idempotency")
def idempotency():
    settings = {"extra_headers": {"Idempotency-Key": uuid4().hex}}
    ids = {
        agent().run_sync("Hello", model_settings=settings).response.provider_response_id
        for _ in range(2)
    }
    assert len(ids) == 1


absent("Pydantic AI asks for one answer at a time.", "choices")
absent("Pydantic AI leads to no such route.", "models", "responses_stored")
main()
