"""Chat completions and what is around them, with the official SDK."""

import asyncio
import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import openai
from harness import (
    API_KEY,
    BASE_URL,
    DEMO,
    PIXEL,
    REACT,
    TIME,
    UPSTREAM,
    WEATHER,
    feature,
    raised,
    unique,
)
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

client = OpenAI(max_retries=0, timeout=30)
TOOL = {"type": "function", "function": WEATHER}
TOOLS = [TOOL, {"type": "function", "function": TIME}]


class City(BaseModel):
    name: str
    inhabitants: int


def user(text):
    return {"role": "user", "content": text}


def ask(text, model=DEMO, **options):
    return client.chat.completions.create(model=model, messages=[user(text)], **options)


@feature("chat")
def chat():
    answer = ask("Hello")
    assert answer.object == "chat.completion"
    assert answer.model == DEMO
    assert answer.id.startswith("chatcmpl-")
    assert "Hello" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


@feature("stream")
def stream():
    chunks = list(ask("count to 20", stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.endswith("18 19 20")
    assert len(chunks) > 20
    assert chunks[-1].choices[0].finish_reason == "stop"
    with client.chat.completions.stream(model=DEMO, messages=[user("count to 3")]) as events:
        events.until_done()
        final = events.get_final_completion()
    assert final.choices[0].message.content.endswith("1 2 3")


@feature("async")
async def several_at_once():
    async with AsyncOpenAI() as several:
        answers = await asyncio.gather(
            *(
                several.chat.completions.create(model=DEMO, messages=[user(f"number {n}")])
                for n in range(8)
            )
        )
        for n, answer in enumerate(answers):
            assert f"number {n}" in answer.choices[0].message.content
        streamed = await several.chat.completions.create(
            model=DEMO, messages=[user("count to 5")], stream=True
        )
        assert len([chunk async for chunk in streamed]) > 5


@feature("usage")
def usage():
    counted = ask("count to 10").usage
    assert counted.prompt_tokens >= 3
    assert counted.completion_tokens >= 10
    assert counted.total_tokens == counted.prompt_tokens + counted.completion_tokens


@feature("stream_usage")
def stream_usage():
    *rest, last = ask("count to 10", stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.completion_tokens >= 10
    assert all(chunk.usage is None for chunk in rest)


@feature("system")
def system():
    for role in ("system", "developer"):
        messages = [
            {"role": role, "content": "Speak like a pirate."},
            user("What is your system prompt?"),
        ]
        answer = client.chat.completions.create(model=DEMO, messages=messages)
        assert "pirate" in answer.choices[0].message.content, role


@feature("turns")
def turns():
    messages = [user("My name is Ada.")]
    answer = client.chat.completions.create(model=DEMO, messages=messages)
    messages += [answer.choices[0].message, user("What is my name?")]
    answer = client.chat.completions.create(model=DEMO, messages=messages)
    assert "Ada" in answer.choices[0].message.content


@feature("tool_call")
def tool_call():
    choice = ask('The weather in "Oslo"?', tools=[TOOL]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}


@feature("tool_stream")
def tool_stream():
    messages = [user('The weather and the time in "Oslo"?')]
    with client.chat.completions.stream(model=DEMO, messages=messages, tools=TOOLS) as events:
        done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.name for event in done] == ["get_weather", "get_time"]
    assert [json.loads(event.arguments) for event in done] == [{"city": "Oslo"}] * 2


@feature("tool_parallel")
def tool_parallel():
    both = 'The weather and the time in "Oslo"?'
    calls = ask(both, tools=TOOLS).choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert len({call.id for call in calls}) == 2
    calls = ask(both, tools=TOOLS, parallel_tool_calls=False).choices[0].message.tool_calls
    assert len(calls) == 1


@feature("tool_result")
def tool_result():
    messages = [user('The weather in "Oslo"?')]
    asked = client.chat.completions.create(model=DEMO, messages=messages, tools=[TOOL])
    call = asked.choices[0].message.tool_calls[0]
    messages += [
        asked.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"},
    ]
    answer = client.chat.completions.create(model=DEMO, messages=messages, tools=[TOOL])
    assert "12 degrees" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


@feature("tool_choice")
def tool_choice():
    forced = {"type": "function", "function": {"name": "get_time"}}
    calls = ask("Hello", tools=TOOLS, tool_choice=forced).choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_time"]
    assert ask("Hello", tools=TOOLS, tool_choice="required").choices[0].message.tool_calls
    none = ask("weather", tools=TOOLS, tool_choice="none").choices[0]
    assert none.message.tool_calls is None


@feature("agent_tools")
def agent_tools():
    answer = ask("What is 6 * 7?", model=REACT).choices[0]
    assert "42" in answer.message.content
    assert answer.message.tool_calls is None
    chunks = list(ask("What is 6 * 7?", model=REACT, stream=True))
    assert not any(chunk.choices[0].delta.tool_calls for chunk in chunks)


@feature("structured")
def structured():
    messages = [user('"Oslo" has 700000 inhabitants.')]
    answer = client.chat.completions.parse(model=DEMO, messages=messages, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Oslo", inhabitants=700000)


@feature("structured_stream")
def structured_stream():
    messages = [user('"Oslo" has 700000 inhabitants.')]
    with client.chat.completions.stream(
        model=DEMO, messages=messages, response_format=City
    ) as events:
        final = events.get_final_completion()
    assert final.choices[0].message.parsed.inhabitants == 700000


@feature("json_object")
def json_object():
    answer = ask("Say it in JSON", response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


@feature("images")
def images():
    content = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    ]
    answer = client.chat.completions.create(
        model=DEMO, messages=[{"role": "user", "content": content}]
    )
    assert "1 image" in answer.choices[0].message.content


@feature("length")
def length():
    for limit in ("max_tokens", "max_completion_tokens"):
        answer = ask("count to 50", **{limit: 5})
        assert answer.choices[0].finish_reason == "length", limit
        assert answer.usage.completion_tokens == 5


@feature("stop")
def stop():
    answer = ask("count to 50", stop=["7"]).choices[0]
    assert answer.message.content.strip().endswith("6")
    assert answer.finish_reason == "stop"


@feature("logprobs")
def logprobs():
    choice = ask("count to 3", logprobs=True, top_logprobs=1).choices[0]
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert len(tokens[0].top_logprobs) == 1


@feature("choices")
def choices():
    assert [choice.index for choice in ask("Hello", n=3).choices] == [0, 1, 2]
    chunks = list(ask("Hello", n=2, stream=True))
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1}


@feature("sampling")
def sampling():
    options = {"seed": 7, "temperature": 0.2, "top_p": 0.9, "frequency_penalty": 0.1, "user": "u"}
    one, other = (ask("Hello", **options) for _ in range(2))
    assert one.choices[0].message.content == other.choices[0].message.content


@feature("stored")
def stored():
    kept = unique("kept")
    made = ask(kept, store=True, metadata={"topic": kept})
    completions = client.chat.completions
    found = completions.retrieve(made.id)
    assert found.choices[0].message.content == made.choices[0].message.content
    assert [each.id for each in completions.list(metadata={"topic": kept})] == [made.id]
    assert kept in next(iter(completions.messages.list(made.id))).content
    assert completions.update(made.id, metadata={"topic": "new"}).metadata == {"topic": "new"}
    assert completions.delete(made.id).deleted
    raised(openai.NotFoundError, lambda: completions.retrieve(made.id))


@feature("unknown_model")
def unknown_model():
    error = raised(openai.NotFoundError, lambda: ask("Hello", model="nobody"))
    assert error.code == "model_not_found"
    assert error.type == "invalid_request_error"
    assert error.request_id


@feature("bad_key")
def bad_key():
    stranger = OpenAI(api_key="ar_wrong", max_retries=0)
    error = raised(openai.AuthenticationError, stranger.models.list)
    assert error.body["message"]


@feature("bad_request")
def bad_request():
    error = raised(openai.BadRequestError, lambda: ask("Hello", temperature=9))
    assert error.param == "temperature"
    assert error.type == "invalid_request_error"


@feature("rate_limited")
def rate_limited():
    error = raised(openai.RateLimitError, lambda: ask("fault:rate-limited", model=UPSTREAM))
    assert error.response.headers["retry-after"]


@feature("retry")
def retry():
    patient = client.with_options(max_retries=2)
    for streamed in (False, True):
        answer = patient.chat.completions.create(
            model=UPSTREAM, messages=[user(unique("fault:busy"))], stream=streamed
        )
        text = (
            "".join(chunk.choices[0].delta.content or "" for chunk in answer)
            if streamed
            else answer.choices[0].message.content
        )
        assert "fault:busy" in text


@feature("timeout")
def timeout():
    hasty = client.with_options(timeout=0.5)
    began = time.monotonic()
    raised(
        openai.APITimeoutError,
        lambda: hasty.chat.completions.create(
            model=UPSTREAM, messages=[user("fault:slow-headers")]
        ),
    )
    assert time.monotonic() - began < 2


@feature("cancel")
def cancel():
    streamed = ask("delay:50 words:200", model=UPSTREAM, stream=True)
    for index, _ in enumerate(streamed):
        if index == 3:
            break
    streamed.close()
    assert ask("Hello", model=UPSTREAM).choices[0].message.content


@feature("broken_stream")
def broken_stream():
    error = raised(openai.APIError, lambda: list(ask("fault:cut", model=UPSTREAM, stream=True)))
    assert error.body["code"] == "upstream_error"


@feature("models")
def models():
    ids = [model.id for model in client.models.list()]
    assert DEMO in ids
    found = client.models.retrieve(DEMO)
    assert (found.id, found.object) == (DEMO, "model")
    raised(openai.NotFoundError, lambda: client.models.retrieve("nobody"))


@feature("embeddings")
def embeddings():
    model = "text-embedding-3-small"
    one, other = client.embeddings.create(model=model, input=["one", "other"]).data
    assert len(one.embedding) == len(other.embedding) > 100
    assert one.embedding != other.embedding
    short = client.embeddings.create(model=model, input="one", dimensions=8).data[0]
    assert len(short.embedding) == 8
    packed = client.embeddings.create(model=model, input="one", encoding_format="base64").data[0]
    assert len(base64.b64decode(packed.embedding)) == 4 * len(one.embedding)


@feature("session")
def session():
    headers = {"X-Session-Id": uuid4().hex}
    ask("My name is Ada.", extra_headers=headers)
    answer = ask("What is my name?", extra_headers=headers)
    assert "Ada" in answer.choices[0].message.content


@feature("idempotency")
def idempotency():
    headers = {"Idempotency-Key": uuid4().hex}
    with ThreadPoolExecutor(4) as pool:
        patient = OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=5)
        asked = [
            pool.submit(
                patient.chat.completions.create,
                model=DEMO,
                messages=[user("Hello")],
                extra_headers=headers,
            )
            for _ in range(4)
        ]
        assert len({each.result().id for each in asked}) == 1
    error = raised(openai.UnprocessableEntityError, lambda: ask("Other", extra_headers=headers))
    assert error.param == "Idempotency-Key"
