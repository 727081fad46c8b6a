"""The registry of providers on every store."""

from dataclasses import replace
from typing import Any

import pytest

from runtime.domain.entities.agents import Agent, AgentLine
from runtime.domain.entities.providers import Provider, ProviderModel
from runtime.domain.errors import (
    ConcurrentChange,
    InvalidValue,
    ProviderExists,
    ProviderNotFound,
)
from runtime.domain.events.providers import ProvidersChanged
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.agents import AgentStatus
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import ProjectId, ProviderId
from runtime.domain.value_objects.providers import (
    Capabilities,
    EnvironmentKey,
    Fallback,
    Routing,
    Tuning,
)
from runtime.domain.value_objects.secrets import SealedSecret
from tests.contracts.conftest import Storage
from tests.contracts.samples import (
    ALL,
    ANN,
    BOB,
    NOON,
    OTHER_PROJECT,
    PROJECT,
    a_line,
    a_spec,
    a_version,
    all_of,
    minutes_past_noon,
    store,
)
from tests.fakes import Published

MINE = ProviderId("mine")


def a_model(name: str = "large", *fallbacks: str) -> ProviderModel:
    return ProviderModel(
        name=name,
        upstream_name=f"vendor/{name}",
        display_name="Größe L 👍",
        capabilities=Capabilities(tools=True, vision=False, context_window=2**40),
        enabled=False,
        fallbacks=tuple(Fallback(each, 2) for each in fallbacks),
        routing=Routing.WEIGHTED,
        weight=7,
    )


def a_provider(
    id: str = MINE, *models: ProviderModel, project: ProjectId = PROJECT, **changes: object
) -> Provider:
    provider = Provider(
        id=ProviderId(id),
        project_id=project,
        owner_id=ANN,
        type="openai",
        base_url="https://llm.test/v1",
        key=SealedSecret("v1.sealed", "a mark"),
        default_model="large",
        default_embedding_model="embed",
        formats=frozenset({"json_object", "json_schema"}),
        options={"api_version": "2024-10-21", "n": 2, "x": 0.5, "yes": True},
        tuning=Tuning(connect_s=1.5, attempts=2, max_concurrency=3),
        models=models,
        created_at=NOON,
        updated_at=NOON,
    )
    return replace(provider, **changes)  # type: ignore[arg-type]


BARE: dict[str, Any] = {
    "base_url": None,
    "key": None,
    "default_model": None,
    "default_embedding_model": None,
    "formats": None,
    "options": {},
    "tuning": Tuning(),
    "enabled": False,
}


async def add(uow: UnitOfWorkFactory, *providers: Provider) -> None:
    for provider in providers:
        async with uow(all_of(provider.project_id)) as work:
            await work.providers.add(provider)
            await work.commit()


async def the(uow: UnitOfWorkFactory, id: str, scope: Scope = ALL) -> Provider:
    async with uow(scope) as work:
        return await work.providers.get(ProviderId(id))


def same(one: Provider, other: Provider) -> bool:
    return vars(one) == vars(other)


@pytest.mark.parametrize("changes", [{}, BARE, {"key": EnvironmentKey("X_API_KEY")}])
async def test_a_provider_reads_back_the_same(storage: Storage, changes: dict[str, Any]) -> None:
    provider = a_provider(MINE, a_model("a"), a_model("b", "mine/a", "demo"), **changes)
    await add(storage.uow, provider)

    assert same(await the(storage.uow, MINE), provider)
    (booked,) = await storage.provider_book.providers()
    assert same(booked, provider)


async def test_a_change_replaces_everything_and_is_told(
    storage: Storage, published: Published
) -> None:
    await add(storage.uow, a_provider(MINE, a_model("a"), a_model("b")))
    changed = await the(storage.uow, MINE)
    changed.base_url, changed.formats = None, None
    changed.remove_model("a", minutes_past_noon(1))
    changed.put_model(a_model("b", "demo"), minutes_past_noon(2))
    async with storage.uow(ALL) as work:
        await work.providers.save(changed)
        assert published == []
        await work.commit()

    assert set(published) == {ProvidersChanged()}
    assert changed.revision == 2
    assert same(await the(storage.uow, MINE), changed)


async def test_an_id_is_taken_once_in_a_project(uow: UnitOfWorkFactory) -> None:
    await add(uow, a_provider(), a_provider(project=OTHER_PROJECT))

    async with uow(ALL) as work:
        with pytest.raises(ProviderExists):
            await work.providers.add(a_provider(type="demo"))
    assert (await the(uow, MINE)).type == "openai"


async def test_of_two_changes_at_once_one_counts(uow: UnitOfWorkFactory) -> None:
    await add(uow, a_provider(MINE, a_model()))
    first, second = await the(uow, MINE), await the(uow, MINE)
    async with uow(ALL) as work:
        await work.providers.save(first)
        await work.commit()

    async with uow(ALL) as work:
        with pytest.raises(ConcurrentChange):
            await work.providers.save(second)
        with pytest.raises(ConcurrentChange):
            await work.providers.remove(second)
        await work.providers.remove(first)
        await work.commit()
    async with uow(ALL) as work:
        for doing in (work.providers.save(first), work.providers.remove(first)):
            with pytest.raises(ProviderNotFound):
                await doing


async def test_what_is_removed_is_gone_with_its_models(storage: Storage) -> None:
    await add(storage.uow, a_provider(MINE, a_model()))
    async with storage.uow(ALL) as work:
        await work.providers.remove(await work.providers.get(MINE))
        await work.commit()

    assert await storage.provider_book.providers() == []
    await add(storage.uow, a_provider(MINE))
    assert (await the(storage.uow, MINE)).models == ()


async def test_everybody_of_a_project_sees_its_providers_and_nobody_else(
    storage: Storage,
) -> None:
    await add(storage.uow, a_provider(), a_provider(project=OTHER_PROJECT, type="demo"))

    assert (await the(storage.uow, MINE, Scope(PROJECT, BOB))).type == "openai"
    assert (await the(storage.uow, MINE, Scope(OTHER_PROJECT, ANN))).type == "demo"
    empty = all_of(ProjectId("empty"))
    async with storage.uow(empty) as work:
        assert (await work.providers.page(limit=5, after=None)).items == []
        for change in (work.providers.save, work.providers.remove):
            with pytest.raises(ProviderNotFound):
                await change(a_provider())
    book = storage.provider_book
    whole = await book.providers()
    assert len(whole) == 2
    assert await book.marks() == {(each.project_id, each.id): each.mark for each in whole}


async def test_lists_go_on_where_the_page_ended(uow: UnitOfWorkFactory) -> None:
    ids = ["B", "a", "a.b", "b", "c"]
    await add(uow, *(a_provider(id, a_model(f"of-{id}")) for id in reversed(ids)))
    found: list[str] = []
    async with uow(ALL) as work:
        after = None
        while page := await work.providers.page(limit=2, after=after):
            found += [model.name for each in page.items for model in each.models]
            if (after := page.next_cursor) is None:
                break
        with pytest.raises(InvalidValue):
            await work.providers.page(limit=2, after="garbage")

    assert found == [f"of-{id}" for id in ids]


async def test_users_are_agents_in_use_and_models_that_fall_back(uow: UnitOfWorkFactory) -> None:
    await add(
        uow,
        a_provider(MINE, a_model("large", "mine/small"), a_model("small")),
        a_provider("other", a_model("x", "mine/large"), a_model("y", "mine2/large"), a_model("z")),
        a_provider("third", a_model("x", "mine")),
        a_provider("fourth", a_model("x", "mine"), project=OTHER_PROJECT),
    )
    for slug, model in (
        ("a", "mine"),
        ("b", "mine/large"),
        ("c", "mine2"),
        ("d", "Mine/x"),
        ("e", None),
    ):
        line = a_line(slug)
        await store(uow, line, _on(line, model), _revoked(_on(line, "mine/large")))

    async with uow(Scope(PROJECT, BOB)) as work:
        users = work.providers.users_of
        assert await users(MINE) == ["a@v1", "b@v1", "other/x", "third/x"]
        assert await users(MINE, "large") == ["b@v1", "other/x"]
        by_id = await users(MINE, "large", by_id=True)
        assert by_id == ["a@v1", "b@v1", "other/x", "third/x"]
        assert await users(MINE, "small") == ["mine/large"]
        assert await users(ProviderId("other")) == []
        assert await users(ProviderId("min_")) == []


async def test_at_most_ten_users_are_named(uow: UnitOfWorkFactory) -> None:
    await add(uow, a_provider("other", *(a_model(f"m{n:02}", "mine") for n in range(12))))

    async with uow(ALL) as work:
        assert len(await work.providers.users_of(MINE)) == 10


def _on(line: AgentLine, model: str | None) -> Agent:
    return a_version(line, spec=replace(a_spec(), model=model))


def _revoked(agent: Agent) -> Agent:
    agent.status = AgentStatus.REVOKED
    return agent
