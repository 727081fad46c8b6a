"""`POST /v1/embeddings` with the clients that people use, and with a provider that misbehaves."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from tests.e2e.server import Served, serving
from tests.upstream import FakeUpstream, faults
from tests.upstream.answers import raw

KEY = "sk-canary-0123456789"
MODEL = "text-embedding-3-small"


@dataclass
class Setup:
    runtime: Served
    upstream: FakeUpstream


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path,
            openai_base_url=upstream.base_url,
            openai_api_key=KEY,
            openai_embedding_model="own-embedder",
            answer_timeout_s=0.5,
        ) as runtime,
    ):
        yield Setup(runtime, upstream)


async def test_the_sdk_gets_vectors_in_order(runtime: Served) -> None:
    made = await runtime.openai.embeddings.create(model=MODEL, input=["one", "two", "three"])

    assert made.object == "list"
    assert [each.index for each in made.data] == [0, 1, 2]
    assert {each.object for each in made.data} == {"embedding"}
    assert {len(each.embedding) for each in made.data} == {256}
    assert made.usage.prompt_tokens == made.usage.total_tokens == 3
    (alone,) = (await runtime.openai.embeddings.create(model="demo", input="two")).data
    assert alone.embedding == made.data[1].embedding


@pytest.mark.parametrize("dimensions", [1, 64, 1536])
async def test_both_encodings_say_the_same(runtime: Served, dimensions: int) -> None:
    body = {"model": "demo", "input": "Hello", "dimensions": dimensions}
    numbers = await runtime.post("/v1/embeddings", body)
    packed = await runtime.post("/v1/embeddings", {**body, "encoding_format": "base64"})
    unpacked = struct.unpack(
        f"<{dimensions}f", base64.b64decode(packed["data"][0]["embedding"], validate=True)
    )

    assert list(unpacked) == numbers["data"][0]["embedding"]


@pytest.mark.parametrize(
    ("given", "count"), [([1212, 318, 257], 1), ([[1212, 318], [257], [1]], 3), (["a"], 1)]
)
async def test_tokens_are_taken_like_texts(runtime: Served, given: Any, count: int) -> None:  # noqa: ANN401
    made = await runtime.openai.embeddings.create(model=MODEL, input=given)
    assert len(made.data) == count


async def test_langchain_embeds_and_finds_what_is_near(runtime: Served) -> None:
    client = OpenAIEmbeddings(
        model=MODEL,
        base_url=f"{runtime.url}/v1",
        api_key=SecretStr("local"),
        check_embedding_ctx_length=False,
        dimensions=128,
    )
    texts = ["How do I reset my password?", "Our shop is open on Sundays."]
    password, sundays = await asyncio.to_thread(client.embed_documents, texts)
    asked = await asyncio.to_thread(client.embed_query, "reset the password")

    def near(one: list[float]) -> float:
        return sum(a * b for a, b in zip(one, asked, strict=True))

    assert len(asked) == 128
    assert near(password) > near(sundays)


async def test_the_provider_is_asked_once_for_all_and_in_base64(setup: Setup) -> None:
    made = await setup.runtime.openai.embeddings.create(
        model=MODEL, input=["a", "bb"], dimensions=4, user="u-1"
    )
    (request,) = setup.upstream.requests

    assert request.json == {
        "model": MODEL,
        "input": ["a", "bb"],
        "encoding_format": "base64",
        "dimensions": 4,
        "user": "u-1",
    }
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert [each.embedding for each in made.data] == [[1, 0.25, 0.25, 0.25], [2, 0.25, 0.25, 0.25]]
    assert (made.model, made.usage.total_tokens) == (MODEL, 14)


@pytest.mark.parametrize(
    ("named", "asked"),
    [("openai", "own-embedder"), ("openai/vendor/large", "vendor/large"), ("bge-m3", "bge-m3")],
)
async def test_a_model_is_named_in_three_ways(setup: Setup, named: str, asked: str) -> None:
    made = await setup.runtime.openai.embeddings.create(model=named, input="x")

    assert setup.upstream.requests[-1].json["model"] == asked
    assert made.model == asked


async def test_an_unknown_model_is_not_found(setup: Setup, runtime: Served) -> None:
    for served, model in (
        (setup.runtime, "fault-404"),
        (setup.runtime, "elsewhere/small"),
        (setup.runtime, "demo/small"),
        (runtime, "unheard-of"),
        (runtime, "openai/text-embedding-3-small"),
    ):
        with pytest.raises(openai.NotFoundError) as refusal:
            await served.openai.embeddings.create(model=model, input="x")
        assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")


async def test_agents_do_not_embed(setup: Setup, runtime: Served) -> None:
    for served in (setup.runtime, runtime):
        for model in ("assistant", "assistant@v1"):
            with pytest.raises(openai.BadRequestError, match="agents don't embed") as refusal:
                await served.openai.embeddings.create(model=model, input="x")
            assert refusal.value.param == "model"
    assert setup.upstream.requests == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": "demo"}, "input"),
        ({"model": "demo", "input": ""}, "input"),
        ({"model": "demo", "input": []}, "input"),
        ({"model": "demo", "input": {}}, "input"),
        ({"model": "demo", "input": [None]}, "input.0"),
        ({"model": "demo", "input": ["a", ""]}, "input.1"),
        ({"model": "demo", "input": [[1], []]}, "input.1"),
        ({"model": "demo", "input": [-1]}, "input.0"),
        ({"model": "demo", "input": ["a", 1]}, "input.1"),
        ({"model": "demo", "input": ["a"] * 2_049}, "input"),
        ({"model": "demo", "input": "x" * 60_000}, "input"),
        ({"model": "demo", "input": "x", "encoding_format": "hex"}, "encoding_format"),
        ({"model": "demo", "input": "x", "dimensions": 0}, "dimensions"),
        ({"model": "demo", "input": "x", "dimensions": 5_000}, "dimensions"),
        ({"model": "demo", "input": "x", "user": 1}, "user"),
    ],
)
async def test_what_can_t_be_embedded_is_refused_by_name(
    runtime: Served, body: dict[str, Any], param: str
) -> None:
    error = (await runtime.post("/v1/embeddings", body, status=400))["error"]

    assert error["param"] == param
    assert set(error) == {"message", "type", "param", "code"}


FAULTS = [
    ("fault:500", 502, "upstream_error", 3),
    ("fault:401", 502, "upstream_auth_failed", 1),
    ("fault:400", 400, "upstream_invalid_request", 1),
    ("fault:quota", 429, "insufficient_quota", 1),
    ("fault:slow-headers", 504, "upstream_timeout", 3),
    ("fault:garbage", 502, "upstream_error", 3),
    ("fault:cut", 502, "upstream_error", 3),
    ("fault:reset", 502, "upstream_error", 3),
    ("fault:redirect", 502, "upstream_error", 1),
]


@pytest.mark.parametrize(("fault", "status", "code", "tries"), FAULTS)
async def test_a_provider_s_fault_is_answered_as_in_a_chat(
    setup: Setup, fault: str, status: int, code: str, tries: int
) -> None:
    body = {"model": MODEL, "input": fault}
    response = await setup.runtime.http.post("/v1/embeddings", json=body)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert len(setup.upstream.requests) == tries
    assert KEY not in response.text
    assert setup.upstream.base_url not in response.text


async def test_a_passing_fault_is_not_noticed(setup: Setup) -> None:
    setup.upstream.script(faults.status(503), raw(b'{"data": []}', "application/json"))
    made = await setup.runtime.openai.embeddings.create(model=MODEL, input="abc")

    assert made.data[0].embedding[0] == 3
    assert len(setup.upstream.requests) == 3


async def test_a_provider_s_wish_to_wait_is_passed_on(setup: Setup) -> None:
    setup.upstream.script(faults.rate_limited(**{"Retry-After": "30"}))
    response = await setup.runtime.http.post("/v1/embeddings", json={"model": MODEL, "input": "x"})

    assert response.status_code == 429
    assert response.headers["Retry-After"] == "30"


async def test_a_client_that_leaves_closes_the_call_to_the_provider(setup: Setup) -> None:
    async with httpx.AsyncClient(base_url=setup.runtime.url) as client:
        body = {"model": MODEL, "input": "fault:slow-headers"}
        asking = asyncio.create_task(client.post("/v1/embeddings", json=body))
        await setup.upstream.arrived.wait()
        asking.cancel()
        async with asyncio.timeout(0.4):
            await setup.upstream.requests[0].closed.wait()


async def test_calls_are_counted_by_model_and_not_by_what_callers_write(setup: Setup) -> None:
    await setup.runtime.openai.embeddings.create(model=MODEL, input="x")
    with pytest.raises(openai.NotFoundError):
        await setup.runtime.openai.embeddings.create(model="fault-404", input="x")
    text = (await setup.runtime.http.get("/metrics")).text

    assert f'model="openai/{MODEL}"' in text
    assert "fault-404" not in text
