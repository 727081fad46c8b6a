"""What a scope without `sees_all` or `administers` shows, on every store."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from runtime.domain.entities.agents import Agent, AgentLine
from runtime.domain.errors import AgentNotFound, ConcurrentChange, RunNotFound
from runtime.domain.repositories.agents import AgentFilter
from runtime.domain.repositories.runs import RunFilter
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.agents import AgentStatus, ModelReference, VersionType
from runtime.domain.value_objects.identity import Scope
from tests.contracts.conftest import Storage
from tests.contracts.samples import (
    ALL,
    ANN,
    BOB,
    NOON,
    PROJECT,
    a_line,
    a_run,
    a_spec,
    a_version,
    an_entry,
    store,
)

ANNS = Scope(PROJECT, ANN)
BOBS = Scope(PROJECT, BOB)
REVIEWERS = Scope(PROJECT, BOB, sees_all=True)
RELEASED = (AgentStatus.PUBLISHED, AgentStatus.SUPERSEDED)


def in_every_state(line: AgentLine, kind: VersionType) -> list[Agent]:
    agents = []
    for status in AgentStatus:
        agent = a_version(line, spec=replace(a_spec(f"{kind} {status}"), version_type=kind))
        agent.status = status
        agents.append(agent)
    return agents


async def anns_line(uow: UnitOfWorkFactory) -> tuple[AgentLine, Sequence[Agent], Sequence[Agent]]:
    """The line, what everybody sees of it, and what only its owner does."""
    line = a_line()
    agents = in_every_state(line, VersionType.RELEASE) + in_every_state(line, VersionType.BETA)
    shown = [
        agent
        for agent in agents
        if agent.status in RELEASED and agent.spec.version_type is VersionType.RELEASE
    ]
    line.published_id = shown[0].id
    await store(uow, line, *agents)
    return line, shown, [agent for agent in agents if agent not in shown]


async def seen(uow: UnitOfWorkFactory, scope: Scope, agent: Agent) -> bool:
    """By every way to it, which have to agree."""
    async with uow(scope) as work:
        ways = [
            await work.agents.find(ModelReference.parse(reference)) is not None
            for reference in (agent.id, f"{agent.slug}@{agent.version}")
        ]
        page = await work.agents.page(AgentFilter(), limit=100, after=None)
        ways.append(agent.id in {each.id for each in page.items})
        try:
            await work.agents.get(agent.id)
            ways.append(True)
        except AgentNotFound:
            ways.append(False)
    assert len(set(ways)) == 1, (agent.spec.name, ways)
    return ways[0]


async def test_others_see_what_is_released_and_no_beta(uow: UnitOfWorkFactory) -> None:
    _, shown, hidden = await anns_line(uow)

    for agent in (*shown, *hidden):
        assert await seen(uow, ANNS, agent)
        assert await seen(uow, REVIEWERS, agent)
    assert [await seen(uow, BOBS, agent) for agent in shown] == [True, True]
    assert not any([await seen(uow, BOBS, agent) for agent in hidden])


async def test_a_published_beta_is_listed_for_its_owner_only(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    beta = a_version(line, spec=replace(a_spec(), version_type=VersionType.BETA))
    beta.status = AgentStatus.PUBLISHED
    line.published_id = beta.id
    await store(uow, line, beta)

    for scope, count in ((ANNS, 1), (BOBS, 0), (REVIEWERS, 1)):
        async with uow(scope) as work:
            assert len(await work.agents.published()) == count
            found = await work.agents.find(ModelReference.parse("support"))
            assert (found is not None) == bool(count)


async def test_only_ones_own_is_written(uow: UnitOfWorkFactory) -> None:
    line, shown, hidden = await anns_line(uow)

    async with uow(BOBS) as work:
        for agent in (*shown, *hidden):
            with pytest.raises(ConcurrentChange):
                await work.agents.save(agent)
            with pytest.raises(ConcurrentChange):
                await work.agents.remove(agent)
        with pytest.raises(ConcurrentChange):
            await work.lines.save(line)
        with pytest.raises(ValueError, match="somebody else"):
            await work.agents.add(a_version(line))
        with pytest.raises(ValueError, match="somebody else"):
            await work.lines.add(a_line("other"))
        with pytest.raises(ValueError, match="somebody else"):
            await work.audit.add(an_entry(line))
    async with uow(ANNS) as work:
        mine = await work.agents.get(hidden[0].id)
        mine.submit(NOON)
        await work.agents.save(mine)
        await work.lines.save(await work.lines.get(line.id))


async def test_a_line_is_seen_by_who_has_a_part_in_it(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await store(uow, line, a_version(line))

    async def shown(scope: Scope) -> bool:
        async with uow(scope) as work:
            by_slug = await work.lines.find_by_slug(line.slug)
            by_id = await work.lines.find(line.id)
        assert (by_slug is None) == (by_id is None)
        return by_id is not None

    assert (await shown(ANNS), await shown(BOBS), await shown(REVIEWERS)) == (True, False, True)
    async with uow(ALL) as work:
        theirs = await work.lines.get(line.id)
        await work.agents.add(a_version(theirs, owner=BOB))
        await work.lines.save(theirs)
        await work.commit()
    assert await shown(BOBS)


async def test_a_line_is_empty_only_without_versions_of_anybody(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    anns, bobs = a_version(line), a_version(line, owner=BOB)
    await store(uow, line, anns, bobs)

    async with uow(BOBS) as work:
        mine = await work.lines.get(line.id)
        await work.agents.remove(bobs)
        assert await work.lines.has_versions(line.id)
        with pytest.raises(ConcurrentChange):
            await work.lines.remove(mine)
    async with uow(ANNS) as work:
        await work.agents.remove(anns)
        await work.commit()
    async with uow(BOBS) as work:
        mine = await work.lines.get(line.id)
        await work.agents.remove(bobs)
        assert not await work.lines.has_versions(line.id)
        await work.lines.remove(mine)
        await work.commit()


async def test_a_trail_is_seen_by_its_owner_and_reviewers(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    async with uow(ALL) as work:
        await work.audit.add(an_entry(line))
        await work.audit.add(replace(an_entry(line), owner_id=BOB))
        await work.commit()

    for scope, count in ((ANNS, 1), (BOBS, 1), (REVIEWERS, 2)):
        async with uow(scope) as work:
            page = await work.audit.of_line(line.id, limit=10, after=None)
        assert len(page.items) == count


async def test_runs_are_seen_by_who_called_and_by_admins(storage: Storage) -> None:
    anns, bobs = a_run(), a_run(owner_id=BOB)
    await storage.run_log.write([anns, bobs])

    for scope, runs in ((ANNS, [anns]), (BOBS, [bobs]), (REVIEWERS, [bobs])):
        async with storage.uow(scope) as work:
            assert (await work.runs.page(RunFilter(), limit=5, after=None)).items == runs
            assert (await work.runs.totals()).runs == 1
            foreign = bobs if scope is ANNS else anns
            with pytest.raises(RunNotFound, match=f"^Run '{foreign.id}' does not exist.$"):
                await work.runs.get(foreign.id)
    async with storage.uow(ALL) as work:
        assert (await work.runs.totals()).runs == 2
        assert await work.runs.get(bobs.id) == bobs
