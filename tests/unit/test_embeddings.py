"""The demo model's vectors, the bounds of a request, and what a provider's answer may look like."""

import asyncio
from base64 import b64encode
from typing import Any

import orjson
import pytest

from runtime.domain.errors import InvalidValue, UpstreamFailed, UpstreamRefused
from runtime.domain.services.models import EmbeddingCall
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.embeddings import Embeddings, Vector, check_inputs
from runtime.infrastructure.providers.demo.embeddings import vector
from runtime.infrastructure.providers.faults import Faults
from runtime.infrastructure.providers.openai.embeddings import embeddings_of
from tests.providers import demo

HELLO = [0.2649, 0.2649, 0.0, -0.9272]
"""The demo model's vector of this word in four dimensions."""


def likeness(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def of(text: str) -> Vector:
    return vector(text, 256)


def test_demo_vectors_have_length_one() -> None:
    for given in ("Hello there", "漢字", "…", "\ud800", [1, 2, 3], "x" * 49_000):
        made = vector(given, 256)
        assert likeness(made, made) == pytest.approx(1, abs=1e-5)


def test_texts_that_share_words_are_nearer_than_others() -> None:
    question = of("How do I reset my password?")
    near, far = of("Resetting a forgotten password"), of("Opening hours of the shop on Sundays")

    assert likeness(question, near) > likeness(question, far) + 0.2
    assert likeness(of("ORDER"), of("order")) == pytest.approx(1, abs=1e-5)


def test_demo_vectors_are_the_same_everywhere() -> None:
    assert [round(each, 4) for each in vector("Hello", 4)] == HELLO


async def test_the_demo_model_says_how_many_dimensions_it_has() -> None:
    with pytest.raises(UpstreamRefused, match="4096") as refusal:
        await demo().embed(EmbeddingCall("demo", ["x"], dimensions=4_097), "demo")
    assert refusal.value.param == "dimensions"


async def test_embedding_much_leaves_others_their_turn() -> None:
    work = asyncio.create_task(
        demo().embed(EmbeddingCall("demo", ["some words here"] * 500), "demo")
    )
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 500


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ([], "1 to 2048"),
        (["x"] * 2_049, "1 to 2048"),
        (["x", ""], "Input 1 is empty"),
        ([[]], "Input 0 is empty"),
        (["x" * 6 * 8_192 + "x"], "about 8193 tokens"),
        ([[1] * 8_193], "about 8193 tokens"),
        ([[1] * 8_000] * 38, "304000 tokens together"),
    ],
)
def test_more_than_any_model_takes_is_refused(inputs: list[Any], why: str) -> None:
    with pytest.raises(InvalidValue, match=why) as refusal:
        check_inputs(inputs)
    assert refusal.value.param == "input"


def test_the_bounds_themselves_are_allowed() -> None:
    for inputs in (["x" * 6 * 8_192], [[1] * 8_192], ["x"] * 2_048, [[1] * 7_500] * 40):
        check_inputs(inputs)


CALL = EmbeddingCall("m", ["12345678", "x"])


def read(answer: object, call: EmbeddingCall = CALL) -> Embeddings:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    return embeddings_of(body, call, "asked-for", Faults("openai"))


def item(index: int | None, numbers: object) -> dict[str, object]:
    return {"embedding": numbers} | ({} if index is None else {"index": index})


def test_a_wrong_order_is_put_right_by_the_index() -> None:
    made = read({"data": [item(1, [2, 2]), item(0, [1, 1])], "model": "m"})
    assert [list(each) for each in made.vectors] == [[1, 1], [2, 2]]


def test_without_an_index_the_order_counts() -> None:
    made = read({"data": [item(None, [1, 1]), item(None, [2, 2])]})
    assert [each[0] for each in made.vectors] == [1, 2]
    assert made.model == "asked-for"


def test_base64_and_numbers_are_understood() -> None:
    sent = b64encode(b"\x00\x00\x80?\x00\x00\x00@").decode()
    assert [list(each) for each in read({"data": [item(0, sent), item(1, [3, 4])]}).vectors] == [
        [1.0, 2.0],
        [3.0, 4.0],
    ]


def test_usage_is_the_provider_s_or_an_estimate() -> None:
    data = [item(0, [1]), item(1, [1])]

    assert read({"data": data, "usage": {"prompt_tokens": 5}}).usage == Usage(5)
    assert read({"data": data}).usage == Usage(3)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"",
        b"[]",
        b'{"data": null}',
        {"data": []},
        {"data": [item(0, [1])]},
        {"data": [item(0, [1]), item(1, [1]), item(2, [1])]},
        {"data": [item(0, [1]), item(0, [1])]},
        {"data": [item(0, [1]), item(2, [1])]},
        {"data": [item(0, [1]), item(1, [1, 2])]},
        {"data": [item(0, []), item(1, [])]},
        {"data": [item(0, ["a"]), item(1, [1])]},
        {"data": [item(0, "!!!!"), item(1, "!!!!")]},
        {"data": [item(0, "AAAA"), item(1, "AAAA")]},
        {"data": [item(0, "AADAfw=="), item(1, "AADAfw==")]},
        {"data": [item(0, {}), item(1, {})]},
        {"data": [1, 2]},
        {"data": [item(0, [1]), item(1, [1])], "usage": {"prompt_tokens": "many"}},
    ],
)
def test_anything_else_is_the_provider_s_failure(answer: object) -> None:
    with pytest.raises(UpstreamFailed):
        read(answer)


def test_a_length_that_was_not_asked_for_is_the_request_s_fault() -> None:
    call = EmbeddingCall("m", ["x"], dimensions=3)
    with pytest.raises(UpstreamRefused, match="2 numbers") as refusal:
        read({"data": [item(0, [1, 2])]}, call)
    assert refusal.value.param == "dimensions"
