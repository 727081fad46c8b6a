import asyncio
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from runtime.domain.errors import AgentExists, AgentNotFound, ConcurrentChange, InvalidValue
from runtime.domain.repositories.agents import AgentFilter
from runtime.domain.repositories.runs import RunFilter
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.agents import AgentStatus, ModelReference, VersionType
from runtime.domain.value_objects.ids import AgentId, UserId, new_agent_id
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
    publish,
    store,
)


async def found(uow: UnitOfWorkFactory, model: str, owner: UserId = ANN) -> str | None:
    async with uow(all_of(PROJECT, owner)) as work:
        agent = await work.agents.find(ModelReference.parse(model))
    return None if agent is None else agent.id


async def listed(
    uow: UnitOfWorkFactory, where: AgentFilter | None = None, page_size: int = 2
) -> list[str]:
    """Names on all pages."""
    names: list[str] = []
    after = None
    while True:
        async with uow(ALL) as work:
            page = await work.agents.page(where or AgentFilter(), limit=page_size, after=after)
        assert len(page.items) <= page_size
        names += [agent.spec.name for agent in page.items]
        after = page.next_cursor
        if after is None:
            return names


async def test_an_agent_reads_back_the_same(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    agent = a_version(line)
    agent.spec = replace(
        agent.spec,
        model="openai/gpt-4.1-mini",
        description="Antwortet immer, außer sonntags.",
        avatar_url="https://example.org/a.png",
        agent_type="task",
        version_type=VersionType.BETA,
    )
    agent.status = AgentStatus.SUPERSEDED
    agent.author_id = BOB
    agent.reviewer_id = UserId("eve")
    agent.approved_hash = agent.spec.content_hash
    agent.rejection = "too terse"
    agent.updated_at = minutes_past_noon(1)
    agent.published_at = minutes_past_noon(0.5)
    await store(uow, line, agent)

    async with uow(ALL) as work:
        stored = await work.agents.get(agent.id)
    assert vars(stored) == vars(agent)
    assert stored.etag == agent.etag


@pytest.mark.parametrize(
    "value",
    [
        "Grüße, 客服 👩‍👩‍👧 e\u0301 \u2028 \\ \" ' %s :x",
        "a NUL: \x00 and an escaped one: \\u0000",
        2**53 + 1,
        -(2**63) - 1,
        10**300,
        0.1 + 0.2,
        100.0,
        1e16,
        5e-324,
        -0.0,
        [True, False, None, "", [], {}],
        {"": 1, "ключ": {"b": 1, "a": 2}},
    ],
    ids=repr,
)
async def test_a_configuration_keeps_its_values_and_its_hash(
    uow: UnitOfWorkFactory, value: object
) -> None:
    line = a_line()
    agent = a_version(line, spec=a_spec(config={"value": value}))
    await store(uow, line, agent)

    async with uow(ALL) as work:
        stored = await work.agents.get(agent.id)
    assert stored.spec == agent.spec
    assert repr(stored.spec.config["value"]) == repr(value)
    assert stored.spec.content_hash == agent.spec.content_hash


async def test_a_deep_configuration_is_kept(uow: UnitOfWorkFactory) -> None:
    deep: dict[str, object] = {}
    for _ in range(200):
        deep = {"in": [deep]}
    line = a_line()
    agent = a_version(line, spec=a_spec(config=deep))
    await store(uow, line, agent)

    async with uow(ALL) as work:
        assert (await work.agents.get(agent.id)).spec.config == deep


async def test_times_are_kept_to_the_microsecond_whatever_their_zone(
    uow: UnitOfWorkFactory,
) -> None:
    tokyo = timezone(timedelta(hours=9))
    at = datetime(2026, 7, 1, 3, 4, 5, 678901, tzinfo=tokyo)
    line = a_line()
    agent = a_version(line, at=at)
    await store(uow, line, agent)

    async with uow(ALL) as work:
        stored = await work.agents.get(agent.id)
    assert stored.created_at == at
    assert stored.created_at.utcoffset() is not None


@pytest.mark.parametrize("name", ["a\x00b", "half \ud83d"])
async def test_a_text_that_no_database_holds_is_an_invalid_value(
    uow: UnitOfWorkFactory, name: str
) -> None:
    line = a_line()
    agent = a_version(line, spec=a_spec(name))

    with pytest.raises(InvalidValue):
        await store(uow, line, agent)


@pytest.mark.parametrize(
    "value", ["half \ud83d", float("nan"), float("inf"), {"half \ud83d": 1}], ids=ascii
)
async def test_a_configuration_that_is_no_json_is_an_invalid_value(
    uow: UnitOfWorkFactory, value: object
) -> None:
    line = a_line()
    agent = a_version(line, spec=a_spec(config={"value": value}))

    with pytest.raises(InvalidValue):
        await store(uow, line, agent)


async def test_an_unknown_agent_is_not_found(uow: UnitOfWorkFactory) -> None:
    async with uow(ALL) as work:
        with pytest.raises(AgentNotFound, match="agent_404"):
            await work.agents.get(AgentId("agent_404"))
        with pytest.raises(AgentNotFound):
            await work.agents.get(AgentId("x" * 5_000))


async def test_an_agent_of_another_project_does_not_exist(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    agent = a_version(line)
    publish(line, agent)
    await store(uow, line, agent)

    async with uow(all_of(OTHER_PROJECT)) as work:
        with pytest.raises(AgentNotFound, match=f"^Agent '{agent.id}' does not exist.$"):
            await work.agents.get(agent.id)
        for model in ("support", "support@v1", agent.id):
            assert await work.agents.find(ModelReference.parse(model)) is None
        assert await work.agents.published() == []
        page = await work.agents.page(AgentFilter(line_id=line.id), limit=10, after=None)
        assert page.items == []
        with pytest.raises(ConcurrentChange):
            await work.agents.save(agent)
        with pytest.raises(ConcurrentChange):
            await work.agents.remove(agent)
        await work.commit()

    async with uow(ALL) as work:
        assert vars(await work.agents.get(agent.id)) == vars(agent)


async def test_an_agent_id_is_taken_in_every_project(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    agent = a_version(line)
    await store(uow, line, agent)

    other = a_line(project=OTHER_PROJECT)
    with pytest.raises(AgentExists, match=agent.id):
        await store(uow, other, a_version(other, id=agent.id))


async def test_work_goes_on_after_a_refused_agent(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    agent = a_version(line)
    await store(uow, line, agent)

    async with uow(ALL) as work:
        with pytest.raises(AgentExists):
            await work.agents.add(a_version(line, id=agent.id))
        assert (await work.agents.get(agent.id)).number == 1


async def test_of_many_racing_for_an_id_one_wins(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await store(uow, line)
    versions = [a_version(line, id=AgentId("mine")) for _ in range(8)]

    async def add(number: int) -> None:
        async with uow(ALL) as work:
            await work.agents.add(versions[number])
            await work.commit()

    results = await asyncio.gather(*(add(n) for n in range(8)), return_exceptions=True)

    assert results.count(None) == 1
    assert sum(isinstance(result, AgentExists) for result in results) == 7


async def test_a_version_number_is_given_once(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    first = a_version(line)
    await store(uow, line, first)

    async with uow(ALL) as work:
        with pytest.raises(ConcurrentChange, match="support"):
            await work.agents.add(replace(first, id=new_agent_id()))


async def test_a_change_needs_save(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    agent = a_version(line)
    await store(uow, line, agent)

    async with uow(ALL) as work:
        (await work.agents.get(agent.id)).submit(NOON)
        await work.commit()
    async with uow(ALL) as work:
        mine = await work.agents.get(agent.id)
        assert mine.status is AgentStatus.DRAFT
        mine.submit(minutes_past_noon(1))
        await work.agents.save(mine)
        await work.commit()

    async with uow(ALL) as work:
        stored = await work.agents.get(agent.id)
    assert (stored.status, stored.revision, mine.revision) == (AgentStatus.SUBMITTED, 2, 2)
    assert stored.updated_at == minutes_past_noon(1)


async def test_of_many_saving_what_they_read_one_wins(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    agent = a_version(line)
    await store(uow, line, agent)
    all_have_read = asyncio.Barrier(6)

    async def submit() -> None:
        async with uow(ALL) as work:
            mine = await work.agents.get(agent.id)
            await all_have_read.wait()
            mine.submit(NOON)
            await work.agents.save(mine)
            await work.commit()

    results = await asyncio.gather(*(submit() for _ in range(6)), return_exceptions=True)

    assert results.count(None) == 1
    assert sum(isinstance(result, ConcurrentChange) for result in results) == 5


async def test_a_removed_agent_is_gone(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    agent = a_version(line)
    await store(uow, line, agent)
    async with uow(ALL) as work:
        await work.agents.remove(agent)
        await work.commit()

    async with uow(ALL) as work:
        with pytest.raises(AgentNotFound):
            await work.agents.get(agent.id)
        with pytest.raises(ConcurrentChange):
            await work.agents.remove(agent)


async def test_what_was_changed_since_is_not_removed(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    agent = a_version(line)
    await store(uow, line, agent)
    async with uow(ALL) as work:
        await work.agents.save(await work.agents.get(agent.id))
        await work.commit()

    async with uow(ALL) as work:
        with pytest.raises(ConcurrentChange, match=agent.id):
            await work.agents.remove(agent)


async def test_a_slug_names_the_published_version(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    first, second, third = (a_version(line) for _ in range(3))
    await store(uow, line, first, second, third)
    assert await found(uow, "support") is None

    async with uow(ALL) as work:
        publish(line, second)
        await work.agents.save(second)
        await work.lines.save(line)
        await work.commit()
    assert await found(uow, "support") == second.id


async def test_a_version_and_an_id_name_one_version(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    first, second = a_version(line), a_version(line)
    publish(line, second)
    await store(uow, line, first, second)

    assert await found(uow, "support@v1", BOB) == first.id
    assert await found(uow, "support@v2") == second.id
    assert await found(uow, first.id, BOB) == first.id
    assert await found(uow, "support@v3") is None
    assert await found(uow, "nobody@v1") is None
    assert await found(uow, f"{first.id}@v1") is None


async def test_draft_names_the_newest_unpublished_version_of_its_owner(
    uow: UnitOfWorkFactory,
) -> None:
    line = a_line()
    bobs = a_version(line, owner=BOB)
    anns_old, anns_new, anns_published = (a_version(line) for _ in range(3))
    anns_new.status = AgentStatus.SUBMITTED
    publish(line, anns_published)
    await store(uow, line, bobs, anns_old, anns_new, anns_published)

    assert await found(uow, "support@draft", ANN) == anns_new.id
    assert await found(uow, "support@draft", BOB) == bobs.id
    assert await found(uow, "support@draft", UserId("eve")) is None


async def test_a_slug_wins_over_an_id_spelled_the_same(uow: UnitOfWorkFactory) -> None:
    line = a_line("support")
    by_slug = a_version(line)
    publish(line, by_slug)
    await store(uow, line, by_slug)
    other = a_line("sales")
    by_id = a_version(other, id=AgentId("support"))
    await store(uow, other, by_id)

    assert await found(uow, "support") == by_slug.id
    assert await found(uow, "sales") is None


async def test_published_versions_come_by_slug(uow: UnitOfWorkFactory) -> None:
    for slug in ("b-2", "b", "客服", "a.b", "a_b", "ä"):
        line = a_line(slug)
        draft, current = a_version(line), a_version(line)
        publish(line, current)
        await store(uow, line, draft, current)
    unpublished = a_line("none")
    await store(uow, unpublished, a_version(unpublished))

    async with uow(ALL) as work:
        published = await work.agents.published()
    assert [agent.slug.value for agent in published] == ["a.b", "a_b", "b", "b-2", "ä", "客服"]
    assert {agent.number for agent in published} == {2}


async def test_pages_are_newest_first_and_complete(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    minutes = [3, 1, 4, 1, 5, 9, 2, 6]
    agents = [
        a_version(line, spec=a_spec(f"{minute}"), at=minutes_past_noon(minute))
        for minute in minutes
    ]
    await store(uow, line, *agents)

    newest_first = [str(minute) for minute in sorted(minutes, reverse=True)]
    for page_size in (1, 3, 7, 8, 9):
        assert await listed(uow, page_size=page_size) == newest_first


async def test_pages_neither_repeat_nor_skip_while_agents_are_added(
    uow: UnitOfWorkFactory,
) -> None:
    line = a_line()
    await store(uow, line, *(a_version(line, spec=a_spec(f"old {n}")) for n in range(6)))
    names: list[str] = []
    after = None
    for n in range(3):
        async with uow(ALL) as work:
            page = await work.agents.page(AgentFilter(), limit=2, after=after)
        names += [agent.spec.name for agent in page.items]
        after = page.next_cursor
        newer = a_line(f"newer-{n}")
        at = minutes_past_noon(n + 1)
        await store(uow, newer, a_version(newer, spec=a_spec("new"), at=at))

    assert sorted(names) == [f"old {n}" for n in range(6)]
    assert after is None


@pytest.mark.parametrize(
    "garbage",
    ["", "x", "%%%", "bm90IGEgY3Vyc29y", "ü", "YWdlbnRzIDk5OTk5OTk5OTk5OTk5OTk5OSB4", "a\x00"],
)
async def test_a_cursor_that_is_none_is_refused(uow: UnitOfWorkFactory, garbage: str) -> None:
    async with uow(ALL) as work:
        with pytest.raises(InvalidValue) as refusal:
            await work.agents.page(AgentFilter(), limit=2, after=garbage)
    assert refusal.value.param == "after"


async def test_a_cursor_of_another_list_is_refused(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await store(uow, line, a_version(line), a_version(line))
    async with uow(ALL) as work:
        cursor = (await work.agents.page(AgentFilter(), limit=1, after=None)).next_cursor
        assert cursor is not None
        with pytest.raises(InvalidValue):
            await work.runs.page(RunFilter(), limit=1, after=cursor)


async def test_every_filter_narrows_the_list(uow: UnitOfWorkFactory) -> None:
    one, other = a_line("one"), a_line("other")
    mine = a_version(one, spec=a_spec("mine"))
    bobs = a_version(one, spec=a_spec("bobs"), owner=BOB)
    task = a_version(one, spec=replace(a_spec("task"), agent_type="task"))
    submitted = a_version(other, spec=a_spec("submitted"))
    submitted.status = AgentStatus.SUBMITTED
    react = replace(a_spec("react"), template=replace(a_spec().template, id="langgraph.react"))
    await store(uow, one, mine, bobs, task)
    await store(uow, other, submitted, a_version(other, spec=react))

    async def names(where: AgentFilter) -> set[str]:
        return set(await listed(uow, where))

    assert await names(AgentFilter(status=AgentStatus.SUBMITTED)) == {"submitted"}
    assert await names(AgentFilter(template_id="langgraph.react")) == {"react"}
    assert await names(AgentFilter(owner_id=BOB)) == {"bobs"}
    assert await names(AgentFilter(line_id=one.id)) == {"mine", "bobs", "task"}
    assert await names(AgentFilter(slug="other")) == {"submitted", "react"}
    assert await names(AgentFilter(agent_type="task")) == {"task"}
    assert await names(AgentFilter(slug="one", owner_id=BOB)) == {"bobs"}
    assert await names(AgentFilter(slug="one", agent_type="none")) == set()


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("SUPPORT", {"Support DE", "support 100%_a\\b/c"}),
        ("%", {"support 100%_a\\b/c"}),
        ("_", {"support 100%_a\\b/c"}),
        ("a\\b", {"support 100%_a\\b/c"}),
        ("b/c", {"support 100%_a\\b/c"}),
        ("grÜSSE", {"GRÜẞE"}),
        ("ПРИВЕТ", {"привет"}),
        ("客", {"客服"}),
        ("nothing", set()),
        ("x" * 60_000, set()),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_names_are_found_by_any_part_in_any_case(
    uow: UnitOfWorkFactory, part: str, names: set[str]
) -> None:
    line = a_line()
    stored = ("Support DE", "support 100%_a\\b/c", "GRÜẞE", "привет", "客服")
    await store(uow, line, *(a_version(line, spec=a_spec(name)) for name in stored))

    assert set(await listed(uow, AgentFilter(name_contains=part))) == names
