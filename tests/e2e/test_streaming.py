"""`/api/streaming`: answers in every format and mode, from a real server."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream, faults
from tests.upstream.answers import calls, says

CHAT = "/api/streaming/chat"
COMPARE = "/api/streaming/compare"
FORMATS = ["sse", "text", "jsonl", "ai-sdk", "proxy"]
SEVERAL = ["sse", "jsonl", "ai-sdk", "proxy"]
ENDS = {
    "sse": r'data: \{"type":"finish",.+\}\nid: \d+\n\n',
    "jsonl": r'\{"type":"done"\}\n',
    "ai-sdk": r"data: \[DONE\]\n\n",
    "proxy": r'event: done\ndata: \{"status":"completed"\}\n\n',
    "text": r"word2 ?",
}
ENDS_OF_SEVERAL = {**ENDS, "sse": r'data: \{"type":"done"\}\nid: \d+\n\n'}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def runtime(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Served]:
    url = upstream.base_url
    async with serving(tmp_path, openai_base_url=url, openai_api_key="sk-test") as served:
        yield served


def events_of(text: str) -> list[dict[str, Any]]:
    """The objects of a stream in `sse` or `jsonl`."""
    lines = [line.removeprefix("data: ") for line in text.splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def text_of(events: list[dict[str, Any]], source: str | None = None) -> str:
    said = [each for each in events if each["type"] == "text-delta"]
    return "".join(each["content"] for each in said if each.get("source") == source)


async def asked(runtime: Served, **body: object) -> httpx.Response:
    return await runtime.http.post(CHAT, json={"message": "Hello", "provider_id": "openai", **body})


async def streamed(runtime: Served, **body: object) -> list[dict[str, Any]]:
    response = await asked(runtime, **body)
    assert response.status_code == 200, response.text
    return events_of(response.text)


async def refused(runtime: Served, path: str = CHAT, status: int = 400, **body: object) -> Json:
    response = await runtime.http.post(path, json={"message": "Hello", **body})
    assert response.status_code == status, response.text
    told: Json = response.json()
    assert (told["success"], told["data"]) == (False, None)
    return told


async def test_the_call_of_the_document_works_as_it_is_written(runtime: Served) -> None:
    script = f"""curl -sS -X POST "{runtime.url}/api/streaming/chat" \
      -H "Content-Type: application/json" \
      -d '{{
        "messages": [
          {{"role": "user", "content": "你好!"}}
        ],
        "stream_format": "sse",
        "provider_id": "openai"
      }}'"""
    curl = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await curl.communicate()

    said = ""
    for chunk in out.decode().split("\n\n"):
        if chunk.startswith("data: {"):
            data = json.loads(chunk[6:].split("\n")[0])
            if data.get("type") == "text-delta":
                said += data.get("content", "")
    assert said == "You said: 你好!"


@pytest.mark.parametrize("format", FORMATS)
async def test_every_format_has_all_of_the_answer_and_an_end(runtime: Served, format: str) -> None:
    response = await asked(runtime, message="words:3", stream_format=format)

    assert re.search(ENDS[format] + r"\Z", response.text)
    positions = [response.text.index(f"word{number}") for number in range(3)]
    assert positions == sorted(positions)
    assert response.headers["x-accel-buffering"] == "no"
    if format == "text":
        assert response.text == "word0 word1 word2"


async def test_each_format_comes_as_what_it_is(runtime: Served) -> None:
    kinds = {
        format: (await asked(runtime, stream_format=format)).headers["content-type"]
        for format in FORMATS
    }
    assert kinds == {
        **dict.fromkeys(FORMATS, "text/event-stream; charset=utf-8"),
        "text": "text/plain; charset=utf-8",
        "jsonl": "application/x-ndjson",
    }
    headers = (await asked(runtime, stream_format="ai-sdk")).headers
    assert headers["x-vercel-ai-ui-message-stream"] == "v1"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *((CHAT, {"message": "Hi", "stream_format": name}) for name in SEVERAL),
        ("/api/agents/assistant/messages", {"message": "Hi"}),
        (
            "/v1/chat/completions",
            {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]},
        ),
        ("/v1/responses", {"model": "assistant", "input": "Hi"}),
    ],
)
async def test_what_unicode_takes_for_the_end_of_a_line_is_none(
    runtime: Served, upstream: FakeUpstream, path: str, body: Json
) -> None:
    upstream.script(says("one\u2028two\x85three\u2029four 好"))
    async with runtime.http.stream("POST", path, json={**body, "stream": True}) as response:
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines()]

    frames = [line for line in lines if not line.startswith(("id:", "event:", "[DONE]"))]
    whole = [json.dumps(json.loads(line), ensure_ascii=False) for line in frames if line]
    assert any("one\u2028" in frame for frame in whole)


async def test_nobody_named_is_the_operator_s_default_model(runtime: Served) -> None:
    events = events_of((await runtime.http.post(CHAT, json={"message": "Hi"})).text)

    assert text_of(events) == "You said: Hi"
    assert events[0]["source"] == "default"


async def test_a_model_is_called_by_its_own_name(runtime: Served, upstream: FakeUpstream) -> None:
    await streamed(runtime, model="gpt-9")
    await streamed(runtime, provider_id="openai/gpt-8")

    assert [each.json["model"] for each in upstream.requests] == ["gpt-9", "gpt-8"]


async def test_an_agent_answers_with_its_tools_and_steps(runtime: Served) -> None:
    await runtime.publish(name="Adds", template_id="react-agent", llm_config_id="demo")
    body = {"message": "use calculator for 1+2", "agent_id": "adds"}
    events = events_of((await runtime.http.post(CHAT, json=body)).text)

    types = [each["type"] for each in events]
    assert types.index("tool-call") < types.index("tool-result") < types.index("text-delta")
    assert types[-1] == "finish"


async def test_options_reach_the_model_and_tools_come_back(
    runtime: Served, upstream: FakeUpstream
) -> None:
    function = {"name": "get_weather", "parameters": {"type": "object"}}
    upstream.script(calls("get_weather", {"city": "Oslo"}))
    events = await streamed(
        runtime,
        tools=[{"type": "function", "function": function}],
        temperature=0.5,
        max_tokens=40,
    )

    sent = upstream.requests[0].json
    assert (sent["temperature"], sent["max_tokens"]) == (0.5, 40)
    deltas = [each for each in events if each["type"] == "tool-call-delta"]
    assert deltas[0]["tool_name"] == "get_weather"
    assert json.loads("".join(each["arguments"] for each in deltas)) == {"city": "Oslo"}
    assert events[-1]["finish_reason"] == "tool_calls"


async def test_an_answer_in_one_piece_tells_what_it_took(runtime: Served) -> None:
    told = (await asked(runtime, stream=False)).json()

    data = told["data"]
    assert (told["success"], told["error"]) == (True, None)
    assert (data["content"], data["finish_reason"]) == ("You said: Hello", "stop")
    assert data["usage"]["output_tokens"] == 3
    assert data["latency_ms"] > 0
    run = await runtime.get(f"/v1/runs/{data['run_id']}")
    assert run["status"] == "completed"


async def test_a_conversation_with_an_agent_goes_on(runtime: Served) -> None:
    body: Json = {"agent_id": "assistant", "session_id": "s-1", "stream": False}
    await runtime.http.post(CHAT, json={**body, "message": "My name is Ada."})
    second = await runtime.http.post(CHAT, json={**body, "message": "Hello again"})
    conversation = second.headers["x-conversation-id"]
    by_id = {"agent_id": "assistant", "conversation_id": conversation, "message": "Third"}
    third = await runtime.http.post(CHAT, json=by_id)

    items = (await runtime.get(f"/v1/conversations/{conversation}/items"))["data"]
    assert third.headers["x-conversation-id"] == conversation
    assert len([item for item in items if item["role"] == "user"]) == 3


async def test_buffered_pieces_are_few_and_large(runtime: Served) -> None:
    config = {"buffer_size": 40, "flush_interval": 5}
    events = await streamed(
        runtime, message="words:20", generator_mode="buffered", generator_config=config
    )

    pieces = [each["content"] for each in events if each["type"] == "text-delta"]
    assert all(len(piece) >= 40 for piece in pieces[:-1])
    assert "".join(pieces) == " ".join(f"word{number}" for number in range(20))


@pytest.mark.parametrize("format", SEVERAL)
async def test_several_models_answer_at_once(runtime: Served, format: str) -> None:
    response = await asked(
        runtime,
        provider_id=None,
        providers=["openai/a", "openai/b", "demo"],
        generator_mode="interleaved",
        stream_format=format,
    )

    assert re.search(ENDS_OF_SEVERAL[format] + r"\Z", response.text)
    assert all(name in response.text for name in ("openai/a", "openai/b", "demo"))


async def test_interleaved_answers_overlap(runtime: Served) -> None:
    events = await streamed(
        runtime,
        message="delay:20 words:10",
        provider_id=None,
        generator_mode="interleaved",
        generator_config={"providers": ["openai/a", "openai/b", "openai/c"]},
    )

    whole = " ".join(f"word{number}" for number in range(10))
    assert all(text_of(events, f"openai/{name}") == whole for name in "abc")
    ends = [index for index, each in enumerate(events) if each["type"] == "finish"]
    first_words = [index for index, each in enumerate(events) if each["type"] == "text-delta"]
    assert len({events[index]["source"] for index in first_words if index < ends[0]}) == 3


async def test_one_model_that_fails_is_an_event_among_the_others_answers(runtime: Served) -> None:
    events = await streamed(
        runtime,
        message="fault:400",
        provider_id=None,
        providers=["openai", "demo"],
        generator_mode="interleaved",
    )

    errors = [each for each in events if each["type"] == "error"]
    assert [(each["source"], each["status"]) for each in errors] == [("openai", 400)]
    assert "fault:400" in text_of(events, "demo")


async def test_in_a_race_the_slower_model_s_call_is_closed_at_once(
    runtime: Served, upstream: FakeUpstream
) -> None:
    events = await streamed(
        runtime,
        message="fault:slow-headers",
        provider_id=None,
        providers=["openai", "demo"],
        generator_mode="priority",
    )

    assert "fault:slow-headers" in text_of(events)
    assert events[0]["source"] == "demo"
    async with asyncio.timeout(1):
        for each in upstream.requests:
            await each.closed.wait()
    runs = (await runtime.until(lambda found: len(found["data"]) == 2, "/v1/runs"))["data"]
    assert {run["model"]: run["status"] for run in runs} == {
        "openai": "cancelled",
        "demo": "completed",
    }


async def test_the_next_in_rank_takes_over(runtime: Served, upstream: FakeUpstream) -> None:
    events = await streamed(
        runtime,
        message="fault:400",
        provider_id=None,
        providers=["openai", "demo"],
        generator_mode="priority",
        generator_config={"strategy": "ranked"},
    )

    assert events[0]["source"] == "demo"
    assert [each["type"] for each in events].count("error") == 0
    runs = (await runtime.until(lambda found: len(found["data"]) == 2, "/v1/runs"))["data"]
    assert {run["model"]: run["status"] for run in runs} == {
        "openai": "failed",
        "demo": "completed",
    }


async def test_the_next_in_rank_is_not_asked_where_the_first_answers(
    runtime: Served, upstream: FakeUpstream
) -> None:
    config = {"strategy": "ranked", "providers": ["demo", "openai"]}
    await streamed(runtime, provider_id=None, generator_mode="priority", generator_config=config)

    assert upstream.requests == []


async def test_answers_are_compared_side_by_side(runtime: Served) -> None:
    await runtime.http.put("/v1/prices/openai/a", json={"input": 1_000_000, "output": 0})
    body = {"message": "delay:10 words:3", "providers": ["openai/a", "demo"]}
    told = (await runtime.http.post(COMPARE, json=body)).json()

    first, second = told["data"]["results"]
    assert (first["source"], second["source"]) == ("openai/a", "demo")
    assert first["content"] == "word0 word1 word2"
    assert 0 < first["first_token_ms"] <= first["latency_ms"]
    assert first["usage"]["output_tokens"] == 3
    assert first["cost"] == first["usage"]["input_tokens"]
    assert (second["cost"], second["error"]) == (None, None)


async def test_a_comparison_tells_who_failed(runtime: Served) -> None:
    body = {"message": "fault:400", "providers": ["openai", "demo"]}
    told = (await runtime.http.post(COMPARE, json=body)).json()

    failed, answered = told["data"]["results"]
    assert failed["error"] == {
        "code": "upstream_invalid_request",
        "message": "told 400",
        "status": 400,
    }
    assert (failed["content"], answered["error"]) == (None, None)


async def test_a_comparison_of_nothing_but_failures_has_failed(
    runtime: Served, upstream: FakeUpstream
) -> None:
    providers = ["openai/a", "openai/b"]
    alike = await refused(runtime, COMPARE, 400, message="fault:400", providers=providers)
    upstream.script(faults.status(400), faults.quota())
    apart = await refused(runtime, COMPARE, 502, message="x", providers=providers)

    assert alike["code"] == "upstream_invalid_request"
    assert apart["code"] == "no_source_answered"
    assert {each["source"] for each in apart["details"]["sources"]} == set(providers)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stream_format": "xml"}, "stream_format"),
        ({"stream_format": 1}, "stream_format"),
        ({"generator_mode": "fast"}, "generator_mode"),
        ({"generator_config": {"x": 1}}, "generator_config.x"),
        ({"generator_config": []}, "generator_config"),
        ({"generator_mode": "buffered", "generator_config": {"buffer_size": -1}},
         "generator_config.buffer_size"),
        ({"provider_id": "nobody"}, "provider_id"),
        ({"providers": ["demo", "nobody"], "generator_mode": "interleaved"}, "providers.1"),
        ({"providers": ["demo", "openai"]}, "providers"),
        ({"providers": ["demo", "demo"], "generator_mode": "priority"}, "providers"),
        ({"providers": []}, "providers"),
        ({"providers": ["demo"] * 9, "generator_mode": "priority"}, "providers"),
        ({"generator_mode": "interleaved"}, "providers"),
        ({"generator_mode": "interleaved", "providers": ["demo"],
          "generator_config": {"providers": ["openai"]}}, "generator_config.providers"),
        ({"generator_mode": "interleaved", "providers": ["demo"], "stream_format": "text"},
         "stream_format"),
        ({"generator_mode": "interleaved", "agent_id": "assistant"}, "agent_id"),
        ({"agent_id": "assistant", "provider_id": "demo"}, "provider_id"),
        ({"provider_id": "demo", "providers": ["demo"]}, "providers"),
        ({"provider_id": "demo", "session_id": "s-1"}, "session_id"),
        ({"agent_id": "assistant", "session_id": "s-1", "conversation_id": "c"}, "session_id"),
        ({"agent_id": "assistant", "session_id": ""}, "session_id"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "messages"),
        ({"message": None}, "messages"),
        ({"messages": [], "message": None}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(runtime: Served, body: Json, param: str) -> None:
    assert (await refused(runtime, **body))["details"]["param"] == param


async def test_unknown_names_are_answered_with_those_there_are(runtime: Served) -> None:
    told = {
        "demo": await refused(runtime, provider_id="nobody"),
        "jsonl": await refused(runtime, stream_format="xml"),
        "interleaved": await refused(runtime, generator_mode="fast"),
    }
    assert all(name in each["error"] for name, each in told.items())
    unknown = await refused(runtime, status=404, agent_id="nobody")
    assert unknown["details"]["param"] == "agent_id"


async def test_a_comparison_asks_two_to_eight(runtime: Served) -> None:
    for providers in (["demo"], [f"demo/{number}" for number in range(9)], ["demo", "demo"]):
        told = await refused(runtime, COMPARE, providers=providers)
        assert told["details"]["param"] == "providers"


async def test_as_many_places_are_taken_as_models_are_asked(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    url, body = upstream.base_url, {"message": "Hi", "generator_mode": "interleaved"}
    async with serving(
        tmp_path, openai_base_url=url, openai_api_key="sk", max_concurrent_runs=2
    ) as runtime:
        three = {**body, "providers": ["demo", "openai/a", "openai/b"]}
        response = await runtime.http.post(CHAT, json=three)
        assert response.status_code == 503
        assert "retry-after" in response.headers
        two = {**body, "providers": ["demo", "openai/a"]}
        assert (await runtime.http.post(CHAT, json=two)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"provider_id": "demo"},
        {"providers": ["demo", "demo/b"], "generator_mode": "interleaved"},
        {"providers": ["demo", "demo/b"], "generator_mode": "priority"},
    ],
)
async def test_every_run_of_a_request_counts_and_what_is_left_is_told(
    runtime: Served, body: Json
) -> None:
    await runtime.http.put("/v1/limits/project/default", json={"requests_per_minute": 100})
    first = await runtime.http.post(CHAT, json={"message": "Hi", **body})
    after = await runtime.http.post(CHAT, json={"message": "Hi", "provider_id": "demo"})

    assert first.headers["x-ratelimit-limit-requests"] == "100"
    used = 100 - int(after.headers["x-ratelimit-remaining-requests"]) - 1
    assert used == len(body.get("providers", [1]))


@pytest.mark.parametrize("format", FORMATS)
async def test_a_repeated_request_is_answered_again(
    runtime: Served, upstream: FakeUpstream, format: str
) -> None:
    body = {"message": "words:3", "provider_id": "openai", "stream_format": format}
    headers = {"Idempotency-Key": f"key-{format}"}
    first = await runtime.http.post(CHAT, json=body, headers=headers)
    again = await runtime.http.post(CHAT, json=body, headers=headers)

    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("format", FORMATS)
async def test_an_answer_that_failed_is_not_given_again(
    runtime: Served, upstream: FakeUpstream, format: str
) -> None:
    upstream.script(faults.cut(), says("whole"))
    body = {"message": "Hi", "provider_id": "openai", "stream_format": format}
    headers = {"Idempotency-Key": f"key-{format}"}
    try:
        await runtime.http.post(CHAT, json=body, headers=headers)
    except httpx.RemoteProtocolError:
        assert format == "text"
    again = await runtime.http.post(CHAT, json=body, headers=headers)

    assert "idempotent-replayed" not in again.headers
    assert "whole" in again.text
