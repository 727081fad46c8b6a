import asyncio

import pytest

from runtime.domain.errors import AgentNotFound
from runtime.domain.events.agents import AgentCreated, AgentDeleted, AgentSubmitted
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.agents import AgentStatus
from tests.contracts.samples import ALL, NOON, OTHER_PROJECT, a_line, a_version, an_entry, store
from tests.fakes import Published


async def test_work_without_commit_is_forgotten(
    uow: UnitOfWorkFactory, published: Published
) -> None:
    line = a_line()
    agent = a_version(line)
    async with uow(ALL) as work:
        await work.lines.add(line)
        await work.agents.add(agent)

    async with uow(ALL) as work:
        assert await work.lines.find(line.id) is None
        with pytest.raises(AgentNotFound):
            await work.agents.get(agent.id)
    assert published == []


async def test_work_is_forgotten_when_the_block_fails(uow: UnitOfWorkFactory) -> None:
    line = a_line()

    async def failing() -> None:
        async with uow(ALL) as work:
            await work.lines.add(line)
            raise RuntimeError("after the write")

    with pytest.raises(RuntimeError, match="after the write"):
        await failing()
    async with uow(ALL) as work:
        assert await work.lines.find(line.id) is None


async def test_a_cancelled_writer_leaves_the_way_free(uow: UnitOfWorkFactory) -> None:
    has_written = asyncio.Event()

    async def stuck() -> None:
        async with uow(ALL) as work:
            await work.lines.add(a_line())
            has_written.set()
            await asyncio.Event().wait()

    writer = asyncio.create_task(stuck())
    await has_written.wait()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer

    await store(uow, a_line())


async def test_a_unit_of_work_sees_its_own_writes_and_others_do_not(
    uow: UnitOfWorkFactory,
) -> None:
    line = a_line()
    async with uow(ALL) as writer, uow(ALL) as reader:
        await writer.lines.add(line)
        assert await writer.lines.find(line.id) is not None
        assert await reader.lines.find(line.id) is None
        await writer.commit()
        assert await reader.lines.find(line.id) is not None


async def test_a_writer_that_read_an_older_state_waits_and_goes_on(
    uow: UnitOfWorkFactory,
) -> None:
    async with uow(ALL) as late:
        assert await late.lines.find(a_line().id) is None
        await store(uow, a_line("early"))
        await late.lines.add(a_line("late"))
        await late.commit()

    async with uow(ALL) as work:
        assert await work.lines.find_by_slug(a_line("late").slug) is not None


async def test_work_goes_on_after_commit(uow: UnitOfWorkFactory) -> None:
    first, second, third = a_line("first"), a_line("second"), a_line("third")
    async with uow(ALL) as work:
        await work.lines.add(first)
        await work.commit()
        await work.lines.add(second)
        await work.commit()
        await work.lines.add(third)

    async with uow(ALL) as work:
        assert await work.lines.find(first.id) is not None
        assert await work.lines.find(second.id) is not None
        assert await work.lines.find(third.id) is None


async def test_events_are_published_once_after_commit(
    uow: UnitOfWorkFactory, published: Published
) -> None:
    line = a_line()
    agent = a_version(line)
    agent.submit(NOON)
    both = [AgentCreated(agent.id, line.id), AgentSubmitted(agent.id, line.id)]
    async with uow(ALL) as work:
        await work.lines.add(line)
        await work.agents.add(agent)
        assert published == []
        await work.commit()
        assert published == both
        await work.commit()

    assert published == both


async def test_a_removal_is_published_too(uow: UnitOfWorkFactory, published: Published) -> None:
    line = a_line()
    agent = a_version(line)
    await store(uow, line, agent)
    async with uow(ALL) as work:
        mine = await work.agents.get(agent.id)
        mine.delete(NOON)
        await work.agents.remove(mine)
        await work.commit()

    assert published == [AgentDeleted(agent.id, line.id)]


async def test_what_a_subscriber_sees_is_committed(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    agent = a_version(line)
    async with uow(ALL) as work:
        await work.lines.add(line)
        await work.agents.add(agent)
        await work.commit()
        async with uow(ALL) as other:
            assert (await other.agents.get(agent.id)).status is AgentStatus.DRAFT


async def test_a_row_of_another_project_is_not_added(uow: UnitOfWorkFactory) -> None:
    line = a_line(project=OTHER_PROJECT)
    async with uow(ALL) as work:
        with pytest.raises(ValueError, match="project"):
            await work.lines.add(line)
        with pytest.raises(ValueError, match="project"):
            await work.agents.add(a_version(line))
        with pytest.raises(ValueError, match="project"):
            await work.audit.add(an_entry(line, project=OTHER_PROJECT))
