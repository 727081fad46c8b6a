import asyncio

import pytest

from runtime.domain.entities.agents import AgentLine
from runtime.domain.errors import AgentExists, AgentNotFound, ConcurrentChange, NameTaken
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.agents import Slug
from runtime.domain.value_objects.ids import AgentId, new_agent_id, new_line_id
from tests.contracts.samples import ALL, OTHER_PROJECT, a_line, a_version, all_of, store


async def add(uow: UnitOfWorkFactory, line: AgentLine) -> None:
    async with uow(all_of(line.project_id)) as work:
        await work.lines.add(line)
        await work.commit()


async def test_a_line_reads_back_the_same(uow: UnitOfWorkFactory) -> None:
    line = a_line("客服-2")
    line.published_id = AgentId("agent_1")
    line.last_number = 7
    await add(uow, line)

    async with uow(ALL) as work:
        assert vars(await work.lines.get(line.id)) == vars(line)
        by_slug = await work.lines.find_by_slug(Slug("客服-2"))
    assert by_slug is not None
    assert vars(by_slug) == vars(line)


async def test_an_unknown_line_is_not_found(uow: UnitOfWorkFactory) -> None:
    async with uow(ALL) as work:
        assert await work.lines.find(new_line_id()) is None
        assert await work.lines.find_by_slug(Slug("nobody")) is None
        with pytest.raises(AgentNotFound):
            await work.lines.get(new_line_id())


async def test_a_line_of_another_project_does_not_exist(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await add(uow, line)

    async with uow(all_of(OTHER_PROJECT)) as work:
        assert await work.lines.find(line.id) is None
        assert await work.lines.find_by_slug(line.slug) is None
        with pytest.raises(AgentNotFound):
            await work.lines.get(line.id)
        with pytest.raises(ConcurrentChange):
            await work.lines.save(line)
        with pytest.raises(ConcurrentChange):
            await work.lines.remove(line)


async def test_a_slug_is_taken_within_its_project_only(uow: UnitOfWorkFactory) -> None:
    await add(uow, a_line("support"))
    await add(uow, a_line("support", project=OTHER_PROJECT))

    with pytest.raises(NameTaken, match="support"):
        await add(uow, a_line("support"))


async def test_a_line_id_is_taken_in_every_project(uow: UnitOfWorkFactory) -> None:
    line = a_line("support")
    await add(uow, line)

    with pytest.raises(AgentExists, match=line.id):
        await add(uow, a_line("sales", id=line.id, project=OTHER_PROJECT))


async def test_work_goes_on_after_a_refused_line(uow: UnitOfWorkFactory) -> None:
    await add(uow, a_line("support"))
    async with uow(ALL) as work:
        with pytest.raises(NameTaken):
            await work.lines.add(a_line("support"))
        await work.lines.add(a_line("support-2"))
        await work.commit()

    async with uow(ALL) as work:
        assert await work.lines.find_by_slug(Slug("support-2")) is not None


async def test_of_many_racing_for_a_slug_one_wins(uow: UnitOfWorkFactory) -> None:
    results = await asyncio.gather(
        *(add(uow, a_line("support")) for _ in range(8)), return_exceptions=True
    )

    assert results.count(None) == 1
    assert sum(isinstance(result, NameTaken) for result in results) == 7


async def test_a_saved_line_counts_its_revisions(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await add(uow, line)
    async with uow(ALL) as work:
        mine = await work.lines.get(line.id)
        mine.published_id = AgentId("agent_9")
        await work.lines.save(mine)
        mine.last_number = 3
        await work.lines.save(mine)
        await work.commit()

    async with uow(ALL) as work:
        stored = await work.lines.get(line.id)
    assert (stored.published_id, stored.last_number, stored.revision) == ("agent_9", 3, 3)
    assert mine.revision == 3


async def test_of_two_new_versions_at_once_one_is_refused(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await store(uow, line, a_version(line))

    async with uow(ALL) as one, uow(ALL) as other:
        ours = await one.lines.get(line.id)
        theirs = await other.lines.get(line.id)
        await one.agents.add(a_version(ours))
        await one.lines.save(ours)
        await one.commit()
        with pytest.raises(ConcurrentChange, match="support"):
            await other.agents.add(a_version(theirs))
        with pytest.raises(ConcurrentChange, match="support"):
            await other.lines.save(theirs)


async def test_of_many_new_versions_at_once_one_wins(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await store(uow, line, a_version(line))
    all_have_read = asyncio.Barrier(6)

    async def new_version() -> None:
        async with uow(ALL) as work:
            mine = await work.lines.get(line.id)
            await all_have_read.wait()
            version = mine.new_version(
                new_agent_id(),
                a_version(a_line()).spec,
                owner=mine.owner_id,
                author=mine.owner_id,
                at=mine.created_at,
            )
            await work.lines.save(mine)
            await work.agents.add(version)
            await work.commit()

    results = await asyncio.gather(*(new_version() for _ in range(6)), return_exceptions=True)

    assert results.count(None) == 1
    assert sum(isinstance(result, ConcurrentChange) for result in results) == 5


async def test_a_removed_line_is_gone_and_its_slug_free(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await add(uow, line)
    async with uow(ALL) as work:
        await work.lines.remove(await work.lines.get(line.id))
        await work.commit()

    async with uow(ALL) as work:
        assert await work.lines.find(line.id) is None
    await add(uow, a_line())


async def test_a_line_that_has_versions_is_not_removed(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await store(uow, line, a_version(line))

    async with uow(ALL) as work:
        with pytest.raises(ConcurrentChange):
            await work.lines.remove(line)


async def test_a_version_finds_its_line_removed(uow: UnitOfWorkFactory) -> None:
    async with uow(ALL) as work:
        with pytest.raises(ConcurrentChange):
            await work.agents.add(a_version(a_line()))
