"""What every provider that embeds has in common."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from runtime.domain.errors import EmbeddingModelNotFound
from runtime.domain.services.models import EmbeddingCall
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from tests.fakes_models import ModelsOn
from tests.providers import demo, openai
from tests.upstream import FakeUpstream


@pytest.fixture(params=["demo", "openai"])
async def models(request: pytest.FixtureRequest) -> AsyncIterator[ModelsOn]:
    async with FakeUpstream() as upstream:
        egress = EgressClient(EgressPolicy(own=[upstream.base_url]))
        hosted = openai(egress, upstream.base_url, "sk-test")
        service = ModelsOn([demo(), hosted], request.param)
        yield service
        await service.aclose()
        await egress.aclose()


@pytest.fixture
def provider(request: pytest.FixtureRequest) -> str:
    name = request.node.callspec.params["models"]
    assert isinstance(name, str)
    return name


async def embedded(
    models: ModelsOn,
    *inputs: str | list[int],
    model: str = "text-embedding-3-small",
    dimensions: int | None = None,
) -> Embeddings:
    return await models.embed(EmbeddingCall(model, inputs, dimensions))


async def test_every_input_has_a_vector_in_its_place(models: ModelsOn) -> None:
    together = await embedded(models, "one", "three", "seventeen")
    alone = [await embedded(models, text) for text in ("one", "three", "seventeen")]

    assert list(together.vectors) == [each.vectors[0] for each in alone]
    assert len({tuple(vector) for vector in together.vectors}) == 3


async def test_the_same_input_has_the_same_vector(models: ModelsOn) -> None:
    first, second = await asyncio.gather(embedded(models, "ä 漢"), embedded(models, "ä 漢"))
    assert first == second


async def test_vectors_are_of_one_length_which_may_be_asked_for(models: ModelsOn) -> None:
    made = await embedded(models, "one", "two", dimensions=16)
    assert [len(vector) for vector in made.vectors] == [16, 16]


async def test_tokens_are_inputs_too(models: ModelsOn) -> None:
    made = await embedded(models, [1212, 318], [257, 1332, 13])
    assert made.vectors[0] != made.vectors[1]


async def test_tokens_are_counted(models: ModelsOn) -> None:
    assert (await embedded(models, "one two")).usage.input_tokens > 0
    assert (await embedded(models, "one two")).usage.output_tokens == 0


async def test_a_model_is_named_in_three_ways(models: ModelsOn, provider: str) -> None:
    plain = await embedded(models, "x")
    assert plain.model == "text-embedding-3-small"
    named = await embedded(models, "x", model=f"{provider}/text-embedding-3-small")
    assert named == plain
    assert (await embedded(models, "x", model=provider)).vectors == plain.vectors


@pytest.mark.parametrize("model", ["elsewhere/small", "openai/", "/x", "demo/unheard-of"])
async def test_an_unknown_model_is_not_found(models: ModelsOn, model: str) -> None:
    with pytest.raises(EmbeddingModelNotFound):
        await embedded(models, "x", model=model)


async def test_some_names_say_that_they_are_embedding_models(models: ModelsOn) -> None:
    names = ("demo", "openai", "openai/anything", "text-embedding-3-large")

    assert all(models.is_embedder(name) for name in names)
    assert not any(models.is_embedder(name) for name in ("assistant", "elsewhere/small", "demo@v1"))
