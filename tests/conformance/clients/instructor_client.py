"""Instructor: structured answers on top of the OpenAI SDK, and what it hands through."""

import asyncio
import time
from collections.abc import Iterable
from uuid import uuid4

import instructor
import openai
from harness import DEMO, PIXEL, REACT, UPSTREAM, absent, feature, main, raised, unique
from instructor import Mode
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

OSLO = '"Oslo" has 700000 inhabitants.'
CITY = {"name": "Oslo", "inhabitants": 700000}


class City(BaseModel):
    """A city."""

    name: str
    inhabitants: int


class Answer(BaseModel):
    answer: str = Field(description="What was said.")


EVERY = Iterable[City | Answer]


def able(mode=Mode.JSON_SCHEMA, api_key=None, max_retries=0, **options):
    client = OpenAI(api_key=api_key, max_retries=max_retries, timeout=30, **options)
    return instructor.from_openai(client, mode=mode)


def ask(text, client=None, model=DEMO, response_model=Answer, **options):
    return (client or able()).chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text}],
        response_model=response_model,
        max_retries=0,
        **options,
    )


def cause(call):
    """What the SDK raised; Instructor wraps it."""
    error = raised(Exception, call)
    while error is not None and not isinstance(error, openai.OpenAIError):
        error = error.__cause__ or error.__context__
    return error


@feature("chat")
def chat():
    answer = ask("Hello", response_model=None)
    assert "Hello" in answer.choices[0].message.content


@feature("stream")
def stream():
    chunks = ask("count to 20", response_model=None, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.endswith("19 20")


@feature("async")
async def several_at_once():
    client = instructor.from_openai(AsyncOpenAI(), mode=Mode.JSON_SCHEMA)
    answers = await asyncio.gather(
        *(ask(f"number {n}", client=client) for n in range(8)),
    )
    for n, answer in enumerate(answers):
        assert f"number {n}" in answer.answer


@feature("usage")
def usage():
    messages = [{"role": "user", "content": OSLO}]
    city, whole = able().chat.completions.create_with_completion(
        model=DEMO, messages=messages, response_model=City
    )
    assert city.model_dump() == CITY
    assert whole.usage.completion_tokens > 0


@feature("stream_usage")
def stream_usage():
    *_, last = ask(
        "count to 10", response_model=None, stream=True, stream_options={"include_usage": True}
    )
    assert last.usage.completion_tokens >= 10


@feature("system")
def system():
    for role in ("system", "developer"):
        answer = able().chat.completions.create(
            model=DEMO,
            messages=[
                {"role": role, "content": "Be a pirate."},
                {"role": "user", "content": "What is your system prompt?"},
            ],
            response_model=Answer,
        )
        assert "pirate" in answer.answer


@feature("turns")
def turns():
    answer = able().chat.completions.create(
        model=DEMO,
        messages=[
            {"role": "user", "content": "My name is Ada."},
            {"role": "assistant", "content": "Hello, Ada."},
            {"role": "user", "content": "What is my name?"},
        ],
        response_model=Answer,
    )
    assert "Ada" in answer.answer


@feature("tool_call")
def tool_call():
    assert ask(OSLO, client=able(Mode.TOOLS), response_model=City).model_dump() == CITY


@feature("tool_stream")
def tool_stream():
    client = able(Mode.TOOLS)
    messages = [{"role": "user", "content": OSLO}]
    *_, last = client.chat.completions.create_partial(
        model=DEMO, messages=messages, response_model=City
    )
    assert last.model_dump() == CITY


@feature("tool_parallel")
def tool_parallel():
    found = ask("The City and the Answer", client=able(Mode.PARALLEL_TOOLS), response_model=EVERY)
    assert [type(each).__name__ for each in found] == ["City", "Answer"]


@feature("tool_choice")
def tool_choice():
    # A model that is asked for one thing is forced to call the tool of its name.
    assert ask("Hello", client=able(Mode.TOOLS), response_model=Answer).answer == "Hello"


@feature("agent_tools")
def agent_tools():
    assert "42" in ask("What is 6 * 7?", model=REACT).answer


@feature("structured")
def structured():
    assert ask(OSLO, response_model=City).model_dump() == CITY


@feature("structured_stream")
def structured_stream():
    messages = [{"role": "user", "content": OSLO}]
    parts = list(
        able().chat.completions.create_partial(model=DEMO, messages=messages, response_model=City)
    )
    assert len(parts) > 1
    assert parts[-1].model_dump() == CITY


@feature("json_object")
def json_object():
    assert "JSON" in ask("Say it in JSON", client=able(Mode.JSON)).answer


@feature("images")
def images():
    content = ["Look", instructor.Image.from_base64(PIXEL)]
    answer = able().chat.completions.create(
        model=DEMO, messages=[{"role": "user", "content": content}], response_model=Answer
    )
    assert "1 image" in answer.answer


@feature("length")
def length():
    error = raised(Exception, lambda: ask(OSLO, response_model=City, max_tokens=1))
    assert "max_tokens" in str(error) or "length" in str(error), error


@feature("stop")
def stop():
    answer = ask("count to 50", response_model=None, stop=["7"])
    assert answer.choices[0].message.content.strip().endswith("6")


@feature("logprobs")
def logprobs():
    choice = ask("count to 3", response_model=None, logprobs=True, top_logprobs=1).choices[0]
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content


@feature("choices")
def choices():
    answer = ask("Hello", response_model=None, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


@feature("sampling")
def sampling():
    one, other = (ask("Hello", seed=7, temperature=0.2, top_p=0.9) for _ in range(2))
    assert one.answer == other.answer


@feature("unknown_model")
def unknown_model():
    assert isinstance(cause(lambda: ask("Hello", model="nobody")), openai.NotFoundError)


@feature("bad_key")
def bad_key():
    error = cause(lambda: ask("Hello", client=able(api_key="ar_wrong")))
    assert isinstance(error, openai.AuthenticationError)


@feature("bad_request")
def bad_request():
    error = cause(lambda: ask("Hello", temperature=9))
    assert isinstance(error, openai.BadRequestError)
    assert error.param == "temperature"


@feature("rate_limited")
def rate_limited():
    error = cause(lambda: ask("fault:rate-limited", model=UPSTREAM, response_model=None))
    assert isinstance(error, openai.RateLimitError)


@feature("retry")
def retry():
    answer = ask(
        unique("fault:busy"), client=able(max_retries=2), model=UPSTREAM, response_model=None
    )
    assert "fault:busy" in answer.choices[0].message.content


@feature("timeout")
def timeout():
    began = time.monotonic()
    error = cause(lambda: ask("fault:slow-headers", model=UPSTREAM, timeout=0.5))
    assert isinstance(error, openai.APITimeoutError)
    assert time.monotonic() - began < 5


@feature("cancel")
def cancel():
    chunks = ask("delay:50 words:200", model=UPSTREAM, response_model=None, stream=True)
    next(iter(chunks))
    chunks.close()
    assert ask("Hello", model=UPSTREAM, response_model=None).choices


@feature("broken_stream")
def broken_stream():
    chunks = ask("fault:cut", model=UPSTREAM, response_model=None, stream=True)
    raised(openai.APIError, lambda: list(chunks))


@feature("responses")
def responses():
    answer, whole = able(Mode.RESPONSES_TOOLS).responses.create_with_completion(
        model=DEMO, input=OSLO, response_model=City
    )
    assert answer.model_dump() == CITY
    assert whole.status == "completed"


@feature("responses_structured")
def responses_structured():
    answer = able(Mode.RESPONSES_TOOLS).responses.create(
        model=DEMO, input=OSLO, response_model=City
    )
    assert answer.model_dump() == CITY


@feature("responses_stream")
def responses_stream():
    *_, last = able(Mode.RESPONSES_TOOLS).responses.create_partial(
        model=DEMO, input=OSLO, response_model=City
    )
    assert last.model_dump() == CITY


@feature("session")
def session():
    headers = {"X-Session-Id": uuid4().hex}
    ask("My name is Ada.", extra_headers=headers)
    assert "Ada" in ask("What is my name?", extra_headers=headers).answer


@feature("idempotency")
def idempotency():
    headers = {"Idempotency-Key": uuid4().hex}
    one, other = (ask("Hello", response_model=None, extra_headers=headers) for _ in range(2))
    assert one.id == other.id


absent("Instructor runs no tools and sends no results.", "tool_result", "responses_tools")
absent(
    "Instructor leads to no such route; the OpenAI SDK that it stands on does.",
    *("models", "embeddings", "stored", "responses_previous", "responses_background"),
    *("responses_stored", "conversations"),
)
main()
