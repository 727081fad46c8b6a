"""What every provider that embeds has in common."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from runtime.domain.errors import EmbeddingModelNotFound
from runtime.domain.services.models import EmbeddingCall
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from runtime.infrastructure.providers.demo import DemoProvider
from runtime.infrastructure.providers.openai import OpenAIProvider
from runtime.infrastructure.providers.service import PooledModelService
from tests.upstream import FakeUpstream


@pytest.fixture(params=["demo", "openai"])
async def models(request: pytest.FixtureRequest) -> AsyncIterator[PooledModelService]:
    async with FakeUpstream() as upstream:
        egress = EgressClient(EgressPolicy(own=[upstream.base_url]))
        openai = OpenAIProvider(egress, upstream.base_url, "sk-test")
        service = PooledModelService([DemoProvider(), openai], request.param)
        yield service
        await service.aclose()
        await egress.aclose()


@pytest.fixture
def provider(request: pytest.FixtureRequest) -> str:
    name = request.node.callspec.params["models"]
    assert isinstance(name, str)
    return name


async def embedded(
    models: PooledModelService,
    *inputs: str | list[int],
    model: str = "text-embedding-3-small",
    dimensions: int | None = None,
) -> Embeddings:
    return await models.embed(EmbeddingCall(model, inputs, dimensions))


async def test_every_input_has_a_vector_in_its_place(models: PooledModelService) -> None:
    together = await embedded(models, "one", "three", "seventeen")
    alone = [await embedded(models, text) for text in ("one", "three", "seventeen")]

    assert list(together.vectors) == [each.vectors[0] for each in alone]
    assert len({tuple(vector) for vector in together.vectors}) == 3


async def test_the_same_input_has_the_same_vector(models: PooledModelService) -> None:
    first, second = await asyncio.gather(embedded(models, "ä 漢"), embedded(models, "ä 漢"))
    assert first == second


async def test_vectors_are_of_one_length_which_may_be_asked_for(models: PooledModelService) -> None:
    made = await embedded(models, "one", "two", dimensions=16)
    assert [len(vector) for vector in made.vectors] == [16, 16]


async def test_tokens_are_inputs_too(models: PooledModelService) -> None:
    made = await embedded(models, [1212, 318], [257, 1332, 13])
    assert made.vectors[0] != made.vectors[1]


async def test_tokens_are_counted(models: PooledModelService) -> None:
    assert (await embedded(models, "one two")).usage.input_tokens > 0
    assert (await embedded(models, "one two")).usage.output_tokens == 0


async def test_a_model_is_named_in_three_ways(models: PooledModelService, provider: str) -> None:
    plain = await embedded(models, "x")
    assert plain.model == "text-embedding-3-small"
    named = await embedded(models, "x", model=f"{provider}/text-embedding-3-small")
    assert named == plain
    assert (await embedded(models, "x", model=provider)).vectors == plain.vectors


@pytest.mark.parametrize("model", ["elsewhere/small", "openai/", "/x", "demo/unheard-of"])
async def test_an_unknown_model_is_not_found(models: PooledModelService, model: str) -> None:
    with pytest.raises(EmbeddingModelNotFound):
        await embedded(models, "x", model=model)


async def test_some_names_say_that_they_are_embedding_models(models: PooledModelService) -> None:
    names = ("demo", "openai", "openai/anything", "text-embedding-3-large")

    assert all(models.is_embedder(name) for name in names)
    assert not any(models.is_embedder(name) for name in ("assistant", "elsewhere/small", "demo@v1"))
