import pytest

from runtime.domain.entities.audit import AuditEntry
from runtime.domain.errors import InvalidValue
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.ids import LineId, ProjectId
from tests.contracts.samples import ALL, OTHER_PROJECT, PROJECT, a_line, all_of, an_entry


async def record(uow: UnitOfWorkFactory, *entries: AuditEntry) -> None:
    async with uow(all_of(entries[0].project_id)) as work:
        for entry in entries:
            await work.audit.add(entry)
        await work.commit()


async def trail(
    uow: UnitOfWorkFactory, line: LineId, *, limit: int = 10, project: ProjectId = PROJECT
) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    after = None
    while True:
        async with uow(all_of(project)) as work:
            page = await work.audit.of_line(line, limit=limit, after=after)
        entries += page.items
        after = page.next_cursor
        if after is None:
            return entries


async def test_the_trail_of_a_line_is_newest_first_and_complete(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    entries = [an_entry(line, minute=minute) for minute in (2, 0, 1, 4, 3)]
    await record(uow, *entries, an_entry(a_line("other")))

    newest_first = sorted(entries, key=lambda entry: entry.at, reverse=True)
    assert await trail(uow, line.id) == newest_first
    assert await trail(uow, line.id, limit=2) == newest_first


async def test_entries_of_one_moment_are_all_listed(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    entries = [an_entry(line) for _ in range(5)]
    await record(uow, *entries)

    listed = await trail(uow, line.id, limit=2)
    assert len(listed) == 5
    assert {entry.id for entry in listed} == {entry.id for entry in entries}


async def test_a_trail_is_seen_from_its_project_only(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    await record(uow, an_entry(line))

    assert await trail(uow, line.id, project=OTHER_PROJECT) == []


async def test_an_entry_is_part_of_the_transaction(uow: UnitOfWorkFactory) -> None:
    line = a_line()
    async with uow(ALL) as work:
        await work.audit.add(an_entry(line))

    assert await trail(uow, line.id) == []


async def test_a_cursor_of_another_lines_trail_is_refused(uow: UnitOfWorkFactory) -> None:
    line, other = a_line(), a_line("other")
    await record(uow, an_entry(line), an_entry(line))

    async with uow(ALL) as work:
        cursor = (await work.audit.of_line(line.id, limit=1, after=None)).next_cursor
        assert cursor is not None
        with pytest.raises(InvalidValue) as refusal:
            await work.audit.of_line(other.id, limit=1, after=cursor)
    assert refusal.value.param == "after"
