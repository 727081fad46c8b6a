"""ChatOpenAI of langchain-openai; its standard tests run beside this."""

import asyncio
from contextlib import aclosing
from uuid import uuid4

import openai
from harness import DEMO, PIXEL, REACT, UPSTREAM, absent, feature, main, raised, unique
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

HAS_NO_WAY = "ChatOpenAI leads to no such route; the OpenAI SDK that it stands on does."


class City(BaseModel):
    name: str
    inhabitants: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"12 degrees in {city}"


@tool
def get_time(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


TOOLS = [get_weather, get_time]
BOTH = 'The weather and the time in "Oslo"?'
OSLO = '"Oslo" has 700000 inhabitants.'


def model(name=DEMO, **options):
    return ChatOpenAI(**{"model": name, "max_retries": 0, "timeout": 30, **options})


def by_responses(**options):
    return model(use_responses_api=True, **options)


def finish(answer):
    return answer.response_metadata["finish_reason"]


@feature("chat")
def chat():
    answer = model().invoke("Hello")
    assert "Hello" in answer.text
    assert finish(answer) == "stop"
    assert answer.response_metadata["model_name"] == DEMO


@feature("stream")
def stream():
    chunks = list(model().stream("count to 20"))
    assert len(chunks) > 20
    assert "".join(chunk.text for chunk in chunks).endswith("19 20")


@feature("async")
async def several_at_once():
    answers = await asyncio.gather(*(model().ainvoke(f"number {n}") for n in range(8)))
    for n, answer in enumerate(answers):
        assert f"number {n}" in answer.text


@feature("usage")
def usage():
    counted = model().invoke("count to 10").usage_metadata
    assert counted["output_tokens"] >= 10
    assert counted["total_tokens"] == counted["input_tokens"] + counted["output_tokens"]


@feature("stream_usage")
def stream_usage():
    chunks = list(model(stream_usage=True).stream("count to 10"))
    assert sum(c.usage_metadata["output_tokens"] for c in chunks if c.usage_metadata) >= 10


@feature("system")
def system():
    developer = SystemMessage(
        "Speak like a pirate.", additional_kwargs={"__openai_role__": "developer"}
    )
    for message in (SystemMessage("Speak like a pirate."), developer):
        answer = model().invoke([message, HumanMessage("What is your system prompt?")])
        assert "pirate" in answer.text


@feature("turns")
def turns():
    talk = [HumanMessage("My name is Ada.")]
    talk += [model().invoke(talk), HumanMessage("What is my name?")]
    assert "Ada" in model().invoke(talk).text


@feature("tool_call")
def tool_call():
    answer = model().bind_tools([get_weather]).invoke('The weather in "Oslo"?')
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Oslo"}]
    assert finish(answer) == "tool_calls"


@feature("tool_stream")
def tool_stream():
    first, *rest = model().bind_tools(TOOLS).stream(BOTH)
    whole = sum(rest, first)
    assert [call["name"] for call in whole.tool_calls] == ["get_weather", "get_time"]
    assert [call["args"] for call in whole.tool_calls] == [{"city": "Oslo"}] * 2


@feature("tool_parallel")
def tool_parallel():
    assert len(model().bind_tools(TOOLS).invoke(BOTH).tool_calls) == 2
    one = model().bind_tools(TOOLS, parallel_tool_calls=False).invoke(BOTH)
    assert len(one.tool_calls) == 1


@feature("tool_result")
def tool_result():
    able = model().bind_tools([get_weather])
    talk = [HumanMessage('The weather in "Oslo"?')]
    asked = able.invoke(talk)
    talk += [asked, get_weather.invoke(asked.tool_calls[0])]
    assert isinstance(talk[-1], ToolMessage)
    assert "12 degrees" in able.invoke(talk).text


@feature("tool_choice")
def tool_choice():
    forced = model().bind_tools(TOOLS, tool_choice="get_time").invoke("Hello")
    assert [call["name"] for call in forced.tool_calls] == ["get_time"]
    assert model().bind_tools(TOOLS, tool_choice="any").invoke("Hello").tool_calls
    assert not model().bind_tools(TOOLS, tool_choice="none").invoke("weather").tool_calls


@feature("agent_tools")
def agent_tools():
    answer = model(REACT).invoke("What is 6 * 7?")
    assert "42" in answer.text
    assert not answer.tool_calls


@feature("structured")
def structured():
    for method in ("json_schema", "function_calling"):
        able = model().with_structured_output(City, method=method)
        assert able.invoke(OSLO) == City(name="Oslo", inhabitants=700000), method


@feature("structured_stream")
def structured_stream():
    *_, last = model().with_structured_output(City, method="json_schema").stream(OSLO)
    assert last == City(name="Oslo", inhabitants=700000)


@feature("json_object")
def json_object():
    able = model().with_structured_output(method="json_mode", schema={"title": "any"})
    assert isinstance(able.invoke("Say it in JSON"), dict)


@feature("images")
def images():
    content = [{"type": "text", "text": "Look"}, {"type": "image", "url": PIXEL}]
    assert "1 image" in model().invoke([HumanMessage(content)]).text


@feature("length")
def length():
    assert finish(model(max_tokens=5).invoke("count to 50")) == "length"


@feature("stop")
def stop():
    answer = model().invoke("count to 50", stop=["7"])
    assert answer.text.strip().endswith("6")


@feature("logprobs")
def logprobs():
    answer = model(logprobs=True, top_logprobs=1).invoke("count to 3")
    tokens = answer.response_metadata["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == answer.text


@feature("choices")
def choices():
    (generations,) = model(n=3).generate([[HumanMessage("Hello")]]).generations
    assert len(generations) == 3


@feature("sampling")
def sampling():
    warm = model(seed=7, temperature=0.2, top_p=0.9)
    assert warm.invoke("Hello").text == warm.invoke("Hello").text


@feature("stored")
def stored():
    kept = unique("kept")
    answer = model(store=True, metadata={"topic": kept}).invoke(kept)
    completions = openai.OpenAI().chat.completions
    found = completions.retrieve(answer.response_metadata["id"])
    assert found.choices[0].message.content == answer.text


@feature("unknown_model")
def unknown_model():
    raised(openai.NotFoundError, lambda: model("nobody").invoke("Hello"))


@feature("bad_key")
def bad_key():
    raised(openai.AuthenticationError, lambda: model(api_key="ar_wrong").invoke("Hello"))


@feature("bad_request")
def bad_request():
    error = raised(openai.BadRequestError, lambda: model(temperature=9).invoke("Hello"))
    assert error.param == "temperature"


@feature("rate_limited")
def rate_limited():
    raised(openai.RateLimitError, lambda: model(UPSTREAM).invoke("fault:rate-limited"))


@feature("retry")
def retry():
    answer = model(UPSTREAM, max_retries=2).invoke(unique("fault:busy"))
    assert "fault:busy" in answer.text


@feature("timeout")
def timeout():
    hasty = model(UPSTREAM, timeout=0.5)
    raised(openai.APITimeoutError, lambda: hasty.invoke("fault:slow-headers"))


@feature("cancel")
async def cancel():
    async with aclosing(model(UPSTREAM).astream("delay:50 words:200")) as chunks:
        async for _ in chunks:
            break
    assert (await model(UPSTREAM).ainvoke("Hello")).text


@feature("broken_stream")
def broken_stream():
    raised(openai.APIError, lambda: list(model(UPSTREAM).stream("fault:cut")))


@feature("embeddings")
def embeddings():
    able = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)
    one, other = able.embed_documents(["one", "other"])
    assert len(one) == len(other) > 100
    assert one != other


@feature("responses")
def responses():
    answer = by_responses().invoke([SystemMessage("Pirate."), HumanMessage("system prompt?")])
    assert "Pirate" in answer.text
    assert answer.response_metadata["status"] == "completed"


@feature("responses_stream")
def responses_stream():
    chunks = list(by_responses().stream("count to 20"))
    assert "".join(chunk.text for chunk in chunks).endswith("19 20")


@feature("responses_previous")
def responses_previous():
    able = by_responses(use_previous_response_id=True)
    first = able.invoke("My name is Ada.")
    second = able.invoke([HumanMessage("My name is"), first, HumanMessage("What is my name?")])
    assert "Ada" in second.text


@feature("responses_tools")
def responses_tools():
    able = by_responses().bind_tools([get_weather])
    talk = [HumanMessage('The weather in "Oslo"?')]
    asked = able.invoke(talk)
    assert isinstance(asked, AIMessage)
    talk += [asked, get_weather.invoke(asked.tool_calls[0])]
    assert "12 degrees" in able.invoke(talk).text


@feature("responses_structured")
def responses_structured():
    able = by_responses().with_structured_output(City)
    assert able.invoke(OSLO) == City(name="Oslo", inhabitants=700000)


@feature("session")
def session():
    remembered = model(default_headers={"X-Session-Id": uuid4().hex})
    remembered.invoke("My name is Ada.")
    assert "Ada" in remembered.invoke("What is my name?").text


@feature("idempotency")
def idempotency():
    once = model(default_headers={"Idempotency-Key": uuid4().hex})
    one, other = (once.invoke("Hello") for _ in range(2))
    assert one.response_metadata["id"] == other.response_metadata["id"]


absent(HAS_NO_WAY, "models", "responses_background", "responses_stored", "conversations")
main()
