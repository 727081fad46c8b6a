"""Chat completions to the letter: what the wire has beyond text. The server's net holds every
answer to OpenAI's schemas."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from pydantic import BaseModel

from runtime.infrastructure.web.openai.wire import ChatCompletionRequest
from tests.e2e.conforms import request_properties
from tests.e2e.server import Served, serving
from tests.upstream import FakeUpstream, answers, faults
from tests.upstream.answers import chunk, event
from tests.upstream.wire import Behaviour, Exchange

HELLO: Any = [{"role": "user", "content": "Hello out there"}]
TOKEN = {"token": "No", "logprob": -0.1, "bytes": [78, 111], "top_logprobs": []}
CITATION = {
    "type": "url_citation",
    "url_citation": {
        "start_index": 0,
        "end_index": 5,
        "url": "https://example.org/a",
        "title": "A page",
    },
}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def runtime(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Served]:
    async with serving(tmp_path, openai_base_url=upstream.base_url) as served:
        yield served


def saying(logprobs: object = None, **message: object) -> Behaviour:
    """One answer, as one piece of a stream or as a whole."""

    async def answer(exchange: Exchange) -> None:
        said = chunk(message)
        said["choices"][0]["logprobs"] = logprobs
        if exchange.json["stream"]:
            last = chunk(finish="stop", usage=answers.USAGE)
            body, kind = answers.sse(said, last), "text/event-stream"
        else:
            choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
            body = orjson.dumps({**said, "choices": [choice], "usage": answers.USAGE})
            kind = "application/json"
        await exchange.respond(200, body, {"Content-Type": kind})

    return answer


async def ask(runtime: Served, **options: Any) -> Any:  # noqa: ANN401 - the SDK's overloads
    asked = {"model": "assistant", "messages": HELLO, **options}
    return await runtime.openai.chat.completions.create(**asked)


async def payloads(runtime: Served, **options: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Of a stream, as they come; the last one has to be `[DONE]`."""
    body = {"model": "assistant", "messages": HELLO, "stream": True, **options}
    answer = await runtime.http.post("/v1/chat/completions", json=body)
    *lines, done = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert done == "[DONE]"
    return [json.loads(line) for line in lines]


def functions(*names: str) -> list[Any]:
    return [{"type": "function", "function": {"name": name}} for name in names]


def test_openai_has_no_parameter_that_is_silently_dropped() -> None:
    assert request_properties("CreateChatCompletionRequest") <= set(
        ChatCompletionRequest.model_fields
    )


async def test_parameters_reach_the_model_as_they_are(
    runtime: Served, upstream: FakeUpstream
) -> None:
    given = {
        "verbosity": "low",
        "reasoning_effort": "minimal",
        "safety_identifier": "u-1",
        "prompt_cache_key": "k-1",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"ttl": "30m"},
        "user": "ada",
        "seed": 7,
        "logit_bias": {"50256": -100},
    }
    answer = await ask(
        runtime, extra_body={**given, "service_tier": "flex", "modalities": ["text"]}
    )

    assert answer.service_tier == "default"
    assert upstream.requests[0].json.items() >= given.items()


async def test_usage_details_are_passed_on_and_zero_stays_zero(
    runtime: Served, upstream: FakeUpstream
) -> None:
    upstream.script(saying(content="Hi"))
    usage = (await ask(runtime)).usage
    assert (usage.prompt_tokens_details.cached_tokens, usage.total_tokens) == (4, 21)
    assert usage.completion_tokens_details.reasoning_tokens == 5

    *others, last = await payloads(runtime, stream_options={"include_usage": True})
    assert all(each["usage"] is None and each["choices"] for each in others)
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert last["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


async def test_citations_come_through(runtime: Served, upstream: FakeUpstream) -> None:
    cited = saying(content="Hello", annotations=[CITATION])
    upstream.script(cited, cited)
    message = (await ask(runtime)).choices[0].message
    assert [each.model_dump() for each in message.annotations] == [CITATION]

    streamed = await payloads(runtime)
    found = [each["choices"][0]["delta"].get("annotations") for each in streamed]
    assert [each for each in found if each] == [[CITATION]]


async def test_a_refusal_comes_with_its_logprobs(runtime: Served, upstream: FakeUpstream) -> None:
    refused = saying(logprobs={"content": None, "refusal": [TOKEN]}, refusal="No")
    upstream.script(refused, refused)

    choice = (await ask(runtime, logprobs=True)).choices[0]
    assert (choice.message.content, choice.message.refusal) == (None, "No")
    assert choice.logprobs.content is None
    assert [each.token for each in choice.logprobs.refusal] == ["No"]

    first, second, last = [each["choices"][0] for each in await payloads(runtime, logprobs=True)]
    assert first["delta"] == {"role": "assistant", "content": None, "refusal": None}
    assert second["delta"] == {"refusal": "No"}
    assert second["logprobs"]["refusal"] == [TOKEN]
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")


async def test_every_choice_of_a_stream_begins_and_ends_once(runtime: Served) -> None:
    frames = await payloads(runtime, n=3)

    assert len({(each["id"], each["created"], each["model"]) for each in frames}) == 1
    for index in range(3):
        mine = [c for each in frames for c in each["choices"] if c["index"] == index]
        assert ["role" in choice["delta"] for choice in mine] == [True] + [False] * (len(mine) - 1)
        assert [choice["finish_reason"] for choice in mine] == [None] * (len(mine) - 1) + ["stop"]
        text = "".join(choice["delta"].get("content") or "" for choice in mine)
        assert text == "You said: Hello out there"


async def test_each_piece_of_a_call_has_its_index_and_is_sent_at_once(runtime: Served) -> None:
    asked = [{"role": "user", "content": 'add and mul {"a": 1, "b": 22}'}]
    frames = await payloads(runtime, messages=asked, tools=functions("add", "mul"))
    deltas = [each["choices"][0]["delta"] for each in frames]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", ())]

    assert deltas[0]["content"] is None
    assert [(piece["index"], piece.get("id")) for piece in pieces] == [
        *((0, "call_0"), (0, None), (0, None)),
        *((1, "call_1"), (1, None), (1, None)),
    ]
    assert [piece["function"].get("name") for piece in pieces if "id" in piece] == ["add", "mul"]
    assert ["type" in piece for piece in pieces] == ["id" in piece for piece in pieces]
    assert all(len(delta.get("tool_calls", [0])) == 1 for delta in deltas)
    assert frames[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_an_answer_that_breaks_off_ends_with_an_error_and_no_done(
    runtime: Served, upstream: FakeUpstream
) -> None:
    upstream.script(faults.error_event({"message": "overloaded", "code": "server_error"}))
    body = {"model": "assistant", "messages": HELLO, "stream": True}
    answer = await runtime.http.post("/v1/chat/completions", json=body)
    last = answer.text.strip().splitlines()[-1]

    assert answer.status_code == 200
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_error"


async def test_only_allowed_tools_are_offered(runtime: Served, upstream: FakeUpstream) -> None:
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": functions("mul")},
    }
    await ask(runtime, tools=functions("add", "mul"), tool_choice=choice)

    sent = upstream.requests[0].json
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["mul"]
    assert sent["tool_choice"] == "required"


class Place(BaseModel):
    city: str
    sunny: bool


async def test_the_sdk_s_helpers_work(runtime: Served, upstream: FakeUpstream) -> None:
    completions = runtime.openai.chat.completions
    upstream.script(saying(content='{"city": "Oslo", "sunny": true}'))
    parsed = await completions.parse(model="assistant", messages=HELLO, response_format=Place)
    assert parsed.choices[0].message.parsed == Place(city="Oslo", sunny=True)

    upstream.script(saying(content='{"city": "Rome", "sunny": false}'))
    async with completions.stream(
        model="assistant", messages=HELLO, response_format=Place
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert "content.done" in kinds
    assert final.choices[0].message.parsed == Place(city="Rome", sunny=False)

    tool = openai.pydantic_function_tool(Place, name="look")
    asked: Any = [{"role": "user", "content": 'look {"city": "Bonn", "sunny": true}'}]
    async with completions.stream(model="assistant", messages=asked, tools=[tool]) as stream:
        kinds = [event.type async for event in stream]
        message = (await stream.get_final_completion()).choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    (call,) = message.tool_calls or []
    assert call.function.parsed_arguments == Place(city="Bonn", sunny=True)
    assert message.content is None


async def test_every_openai_answer_has_openai_s_headers(runtime: Served) -> None:
    raw = await runtime.openai.chat.completions.with_raw_response.create(
        model="assistant", messages=HELLO, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == raw.parse()._request_id == "mine-1"

    body = {"model": "assistant", "messages": HELLO, "stream": True}
    for answer in (
        raw.http_response,
        await runtime.http.post("/v1/chat/completions", json=body),
        await runtime.http.post("/v1/chat/completions", json={}),
        await runtime.http.get("/v1/models/nobody"),
        await runtime.http.get("/v1/nowhere"),
    ):
        assert answer.headers["openai-version"] == "2020-10-01"
        assert int(answer.headers["openai-processing-ms"]) >= 0
        assert answer.headers["x-request-id"]
    assert "openai-version" not in (await runtime.http.get("/v1/agents")).headers


async def test_a_long_answer_to_a_model_that_is_slow_to_begin_has_comments(
    runtime: Served, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.infrastructure.web.openai.chat.HEADERS_WITHIN_S", 0.05)
    monkeypatch.setattr("runtime.infrastructure.web.sse.EventStream.__init__.__defaults__", (0.05,))

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.3)
        exchange.start()
        await exchange.write(event(chunk({"content": "At last"})))
        await asyncio.sleep(0.3)
        await exchange.write(event(chunk(finish="stop")) + answers.DONE)
        await exchange.end()

    upstream.script(slow)
    body = {"model": "assistant", "messages": HELLO, "stream": True}
    text = (await runtime.http.post("/v1/chat/completions", json=body)).text

    before, after = text.split("At last")
    assert before.startswith(": waiting\n\n")
    assert "\n\n: waiting\n\n" in after
