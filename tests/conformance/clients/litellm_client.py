"""LiteLLM, with the prefix `openai/` that makes it speak to an endpoint as to OpenAI."""

import asyncio
import json
import time
from uuid import uuid4

import litellm
from harness import (
    API_KEY,
    BASE_URL,
    DEMO,
    PIXEL,
    REACT,
    TIME,
    UPSTREAM,
    WEATHER,
    absent,
    feature,
    main,
    raised,
    unique,
)
from litellm import acompletion, completion
from openai import OpenAI
from pydantic import BaseModel

litellm.suppress_debug_info = True
TOOLS = [{"type": "function", "function": each} for each in (WEATHER, TIME)]
BOTH = 'The weather and the time in "Oslo"?'
OSLO = '"Oslo" has 700000 inhabitants.'
WHERE = {"api_base": BASE_URL, "api_key": API_KEY}


class City(BaseModel):
    name: str
    inhabitants: int


def options(model=DEMO, **more):
    return {"model": f"openai/{model}", "max_retries": 0, "timeout": 30, **WHERE, **more}


def user(text):
    return {"role": "user", "content": text}


def ask(text, **more):
    return completion(messages=[user(text)], **options(**more))


def said(answer):
    return answer.choices[0].message.content


@feature("chat")
def chat():
    answer = ask("Hello")
    assert "Hello" in said(answer)
    assert answer.choices[0].finish_reason == "stop"


@feature("stream")
def stream():
    chunks = list(ask("count to 20", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).endswith("19 20")


@feature("async")
async def several_at_once():
    answers = await asyncio.gather(
        *(acompletion(messages=[user(f"number {n}")], **options()) for n in range(8))
    )
    for n, answer in enumerate(answers):
        assert f"number {n}" in said(answer)


@feature("usage")
def usage():
    counted = ask("count to 10").usage
    assert counted.completion_tokens >= 10


@feature("stream_usage")
def stream_usage():
    chunks = list(ask("count to 10", stream=True, stream_options={"include_usage": True}))
    counted = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert counted[-1].completion_tokens >= 10


@feature("system")
def system():
    for role in ("system", "developer"):
        messages = [{"role": role, "content": "Be a pirate."}, user("What is your system prompt?")]
        assert "pirate" in said(completion(messages=messages, **options()))


@feature("turns")
def turns():
    messages = [user("My name is Ada.")]
    messages += [completion(messages=messages, **options()).choices[0].message]
    messages += [user("What is my name?")]
    assert "Ada" in said(completion(messages=messages, **options()))


@feature("tool_call")
def tool_call():
    choice = ask('The weather in "Oslo"?', tools=TOOLS[:1]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Oslo"}


@feature("tool_stream")
def tool_stream():
    chunks = list(ask(BOTH, tools=TOOLS, stream=True))
    calls = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Oslo"}] * 2


@feature("tool_parallel")
def tool_parallel():
    assert len(ask(BOTH, tools=TOOLS).choices[0].message.tool_calls) == 2
    one = ask(BOTH, tools=TOOLS, parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls) == 1


@feature("tool_result")
def tool_result():
    messages = [user('The weather in "Oslo"?')]
    asked = completion(messages=messages, **options(tools=TOOLS)).choices[0].message
    result = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "12 degrees"}
    messages += [asked, result]
    assert "12 degrees" in said(completion(messages=messages, **options(tools=TOOLS)))


@feature("tool_choice")
def tool_choice():
    forced = {"type": "function", "function": {"name": "get_time"}}
    (call,) = ask("Hello", tools=TOOLS, tool_choice=forced).choices[0].message.tool_calls
    assert call.function.name == "get_time"
    assert ask("Hello", tools=TOOLS, tool_choice="required").choices[0].message.tool_calls
    assert not ask("weather", tools=TOOLS, tool_choice="none").choices[0].message.tool_calls


@feature("agent_tools")
def agent_tools():
    assert "42" in said(ask("What is 6 * 7?", model=REACT))


@feature("structured")
def structured():
    answer = ask(OSLO, response_format=City)
    assert City.model_validate_json(said(answer)) == City(name="Oslo", inhabitants=700000)


@feature("structured_stream")
def structured_stream():
    chunks = ask(OSLO, response_format=City, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert City.model_validate_json(text) == City(name="Oslo", inhabitants=700000)


@feature("json_object")
def json_object():
    answer = ask("Say it in JSON", response_format={"type": "json_object"})
    assert isinstance(json.loads(said(answer)), dict)


@feature("images")
def images():
    content = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    assert "1 image" in said(ask(content))


@feature("length")
def length():
    assert ask("count to 50", max_tokens=5).choices[0].finish_reason == "length"


@feature("stop")
def stop():
    assert said(ask("count to 50", stop=["7"])).strip().endswith("6")


@feature("logprobs")
def logprobs():
    choice = ask("count to 3", logprobs=True, top_logprobs=1).choices[0]
    assert "".join(each.token for each in choice.logprobs.content) == choice.message.content


@feature("choices")
def choices():
    assert [choice.index for choice in ask("Hello", n=3).choices] == [0, 1, 2]


@feature("sampling")
def sampling():
    one, other = (ask("Hello", seed=7, temperature=0.2, top_p=0.9) for _ in range(2))
    assert said(one) == said(other)


@feature("stored")
def stored():
    answer = ask(unique("kept"), store=True)
    found = OpenAI().chat.completions.retrieve(answer.id)
    assert said(found) == said(answer)


@feature("unknown_model")
def unknown_model():
    assert raised(litellm.NotFoundError, lambda: ask("Hello", model="nobody")).status_code == 404


@feature("bad_key")
def bad_key():
    raised(litellm.AuthenticationError, lambda: ask("Hello", api_key="ar_wrong"))


@feature("bad_request")
def bad_request():
    error = raised(litellm.BadRequestError, lambda: ask("Hello", temperature=9))
    assert "temperature" in str(error)


@feature("rate_limited")
def rate_limited():
    raised(litellm.RateLimitError, lambda: ask("fault:rate-limited", model=UPSTREAM))


@feature("retry")
def retry():
    answer = ask(unique("fault:busy"), model=UPSTREAM, max_retries=2)
    assert "fault:busy" in said(answer)


@feature("timeout")
def timeout():
    raised(litellm.Timeout, lambda: ask("fault:slow-headers", model=UPSTREAM, timeout=0.5))


@feature("cancel")
async def cancel():
    chunks = await acompletion(
        messages=[user("delay:50 words:200")], **options(model=UPSTREAM, stream=True)
    )
    async for _ in chunks:
        break
    await chunks.aclose()
    answer = await acompletion(messages=[user("Hello")], **options(model=UPSTREAM))
    assert said(answer)


@feature("broken_stream")
def broken_stream():
    chunks = ask("fault:cut", model=UPSTREAM, stream=True)
    raised(litellm.exceptions.MidStreamFallbackError, lambda: list(chunks))


@feature("models")
def models():
    found = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", **WHERE
    )
    assert DEMO in [name.removeprefix("openai/") for name in found]


@feature("embeddings")
def embeddings():
    made = litellm.embedding(model="openai/text-embedding-3-small", input=["one", "other"], **WHERE)
    assert len(made.data) == 2
    assert len(made.data[0]["embedding"]) > 100


@feature("responses")
def responses():
    answer = litellm.responses(input="system prompt?", instructions="Pirate.", **options())
    assert "Pirate" in answer.output[-1].content[0].text


@feature("responses_stream")
def responses_stream():
    events = list(litellm.responses(input="count to 20", stream=True, **options()))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text.endswith("19 20")
    assert events[-1].type == "response.completed"


@feature("responses_previous")
def responses_previous():
    first = litellm.responses(input="My name is Ada.", **options())
    second = litellm.responses(input="What is my name?", previous_response_id=first.id, **options())
    assert "Ada" in second.output[-1].content[0].text


@feature("responses_tools")
def responses_tools():
    tools = [{"type": "function", "strict": True, **WEATHER}]
    asked = litellm.responses(input='The weather in "Oslo"?', tools=tools, **options())
    (call,) = (item for item in asked.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}
    answer = litellm.responses(
        input=[result], tools=tools, previous_response_id=asked.id, **options()
    )
    assert "12 degrees" in answer.output[-1].content[0].text


@feature("responses_structured")
def responses_structured():
    answer = litellm.responses(input=OSLO, text_format=City, **options())
    text = answer.output[-1].content[0].text
    assert City.model_validate_json(text) == City(name="Oslo", inhabitants=700000)


@feature("responses_background")
def responses_background():
    made = litellm.responses(input="count to 5", background=True, **options())
    for _ in range(100):
        if made.status not in ("queued", "in_progress"):
            break
        time.sleep(0.1)
        made = litellm.get_responses(made.id, **WHERE)
    assert made.output[-1].content[0].text.endswith("4 5")


@feature("responses_stored")
def responses_stored():
    made = litellm.responses(input="Hello", **options())
    assert litellm.get_responses(made.id, **WHERE).output[-1].content
    assert litellm.list_input_items(made.id, **WHERE)["data"]
    litellm.delete_responses(made.id, **WHERE)
    gone = raised(litellm.BadRequestError, lambda: litellm.get_responses(made.id, **WHERE))
    assert "not found" in str(gone)


@feature("session")
def session():
    headers = {"X-Session-Id": uuid4().hex}
    ask("My name is Ada.", extra_headers=headers)
    assert "Ada" in said(ask("What is my name?", extra_headers=headers))


@feature("idempotency")
def idempotency():
    headers = {"Idempotency-Key": uuid4().hex}
    one, other = (ask("Hello", extra_headers=headers) for _ in range(2))
    assert one.id == other.id


absent("LiteLLM has no such call.", "conversations")
main()
