import asyncio
from dataclasses import replace

import pytest

from runtime.domain.entities.sessions import Session
from runtime.domain.errors import (
    ConcurrentChange,
    ConversationNotFound,
    InvalidValue,
    ItemNotFound,
)
from runtime.domain.repositories.sessions import Addition, SessionKey, SessionName
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import ChatRole, ImagePart, Message, TextPart, ToolCall
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import ItemId, LineId, SessionId, new_item_id, new_session_id
from runtime.domain.value_objects.items import (
    AgentToolItem,
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
)
from tests.contracts.conftest import Storage
from tests.contracts.samples import (
    ALL,
    ANN,
    BOB,
    OTHER_PROJECT,
    PROJECT,
    all_of,
    minutes_past_noon,
)

ANNS = Scope(PROJECT, ANN)
BOBS = Scope(PROJECT, BOB)
LINE = LineId("line_1")
LATER = minutes_past_noon(5)


def a_session(name: str | None = None, *, line: LineId | None = None) -> Session:
    return Session(
        id=new_session_id(),
        project_id=PROJECT,
        owner_id=ANN,
        line_id=line or (LINE if name else None),
        name=name,
        metadata={"topic": "ü"},
        created_at=minutes_past_noon(0),
        updated_at=minutes_past_noon(0),
    )


def said(text: str, role: ChatRole = ChatRole.USER) -> MessageItem:
    return MessageItem(new_item_id("msg"), Message(role, text))


async def stored(uow: UnitOfWorkFactory, session: Session, *items: Item) -> Session:
    async with uow(ANNS) as work:
        assert await work.sessions.add(session, "first", 60)
        await work.sessions.write(session, "first", Addition(items), session.updated_at)
        await work.commit()
    async with uow(ANNS) as work:
        return await work.sessions.get(session.id)


async def held(uow: UnitOfWorkFactory, key: SessionKey, by: str, for_s: float = 60) -> bool:
    async with uow(ANNS) as work:
        session = await work.sessions.hold(key, by, for_s)
        await work.commit()
    return session is not None


async def texts(uow: UnitOfWorkFactory, id: SessionId) -> list[str]:
    async with uow(ANNS) as work:
        items = await work.sessions.latest(id, None)
    return [each.item.message.text for each in items if isinstance(each.item, MessageItem)]


async def test_a_session_reads_back_the_same(uow: UnitOfWorkFactory) -> None:
    for session in (a_session("trip"), a_session()):
        async with uow(ANNS) as work:
            assert await work.sessions.add(session)
            await work.commit()

        async with uow(ANNS) as work:
            assert await work.sessions.get(session.id) == session


async def test_every_kind_of_item_reads_back_the_same(uow: UnitOfWorkFactory) -> None:
    items: list[Item] = [
        MessageItem(
            ItemId("msg_1"),
            Message(ChatRole.USER, (TextPart("see"), ImagePart("https://x.test/a.png"))),
        ),
        ReasoningItem(ItemId("rs_1"), "Hm.", "incomplete"),
        AgentToolItem(ItemId("mcp_1"), "c0", "search", "{}", "found"),
        FunctionCallItem(ItemId("fc_1"), ToolCall("c1", "f", '{"a": 1}')),
        FunctionOutputItem(ItemId("fco_1"), "c1", "42 🦊"),
    ]
    session = await stored(uow, a_session(), *items)

    async with uow(ANNS) as work:
        found = await work.sessions.items(session.id, limit=10, after=None, newest_first=False)
        read = await work.sessions.latest(session.id, 10)
    assert [placed.item for placed in found] == items
    assert [placed.position for placed in found] == [0, 1, 2, 3, 4]
    assert [placed.item.id for placed in read] == ["msg_1", "fc_1", "fco_1"]
    assert (session.length, session.revision) == (5, "first")


async def test_a_name_is_one_session_for_one_owner_and_agent(uow: UnitOfWorkFactory) -> None:
    first = await stored(uow, a_session("trip"))
    async with uow(ANNS) as work:
        assert not await work.sessions.add(a_session("trip"))
        assert await work.sessions.add(a_session("trip", line=LineId("line_2")))
        assert await work.sessions.add(a_session())
        assert await work.sessions.add(a_session())
        found = await work.sessions.find(SessionName(LINE, "trip"))
        assert found
        assert found.id == first.id
        assert await work.sessions.find(SessionName(LINE, "tour")) is None

    async with uow(BOBS) as work:
        assert await work.sessions.find(SessionName(LINE, "trip")) is None
        assert await work.sessions.add(replace(a_session("trip"), owner_id=BOB))


async def test_many_who_begin_the_same_session_make_one(uow: UnitOfWorkFactory) -> None:
    async def begin() -> bool:
        async with uow(ANNS) as work:
            added = await work.sessions.add(a_session("trip"))
            await work.commit()
        return added

    assert sum(await asyncio.gather(*(begin() for _ in range(8)))) == 1


async def test_a_session_of_somebody_else_is_as_one_that_is_not_there(
    uow: UnitOfWorkFactory,
) -> None:
    item = said("secret")
    session = await stored(uow, a_session("trip"), item)
    unknown = SessionId("conv_404")

    for scope in (BOBS, all_of(OTHER_PROJECT), Scope(OTHER_PROJECT, ANN)):
        async with uow(scope) as work:
            sessions = work.sessions
            for id in (session.id, unknown):
                assert await sessions.find(id) is None
                assert await sessions.hold(id, "thief", 60) is None
                assert await sessions.latest(id, None) == []
                assert (await sessions.items(id, limit=5, after=None, newest_first=True)) == []
                with pytest.raises(ConversationNotFound, match=id):
                    await sessions.get(id)
                with pytest.raises(ConversationNotFound):
                    await sessions.set_metadata(id, {}, LATER)
                with pytest.raises(ConversationNotFound):
                    await sessions.remove(id)
                with pytest.raises(ItemNotFound):
                    await sessions.item(id, item.id)
            await sessions.release(session.id, "first")
            with pytest.raises(ConcurrentChange):
                await sessions.write(session, "first", Addition([said("mine")]), LATER)
    assert await texts(uow, session.id) == ["secret"]


async def test_an_admin_sees_every_session_of_the_project(uow: UnitOfWorkFactory) -> None:
    session = await stored(uow, a_session("trip"), said("Hi"))

    async with uow(all_of(PROJECT, BOB)) as work:
        assert await work.sessions.get(session.id) == session
        assert len(await work.sessions.latest(session.id, None)) == 1
        held = await work.sessions.hold(session.id, "admin", 60)
        assert held
        await work.sessions.write(held, "admin", Addition([said("Hello")]), LATER)
        assert await work.sessions.find(SessionName(LINE, "trip")) is None
        await work.commit()
    assert await texts(uow, session.id) == ["Hi", "Hello"]


async def test_a_session_that_is_held_is_not_held_again_before_it_is_released(
    uow: UnitOfWorkFactory,
) -> None:
    session = await stored(uow, a_session("trip"))
    assert await held(uow, session.id, "one")
    assert not await held(uow, session.id, "two")
    assert not await held(uow, SessionName(LINE, "trip"), "two")

    async with uow(ANNS) as work:
        await work.sessions.release(session.id, "two")
        await work.commit()
    assert not await held(uow, session.id, "two")

    async with uow(ANNS) as work:
        await work.sessions.release(session.id, "one")
        await work.commit()
    assert await held(uow, SessionName(LINE, "trip"), "two")


async def test_of_many_who_want_it_at_once_one_gets_it(uow: UnitOfWorkFactory) -> None:
    session = await stored(uow, a_session("trip"))
    got = await asyncio.gather(*(held(uow, session.id, f"by {n}") for n in range(10)))

    assert sum(got) == 1


async def test_a_session_that_is_begun_held_is_held(uow: UnitOfWorkFactory) -> None:
    async with uow(ANNS) as work:
        assert await work.sessions.add(a_session("trip"), "one", 60)
        await work.commit()

    assert not await held(uow, SessionName(LINE, "trip"), "two")


async def test_a_hold_ends_by_itself_and_then_only_the_next_holder_may_write(
    storage: Storage,
) -> None:
    session = await stored(storage.uow, a_session())
    assert await held(storage.uow, session.id, "one", for_s=0.05)
    await asyncio.sleep(0.1)
    assert await held(storage.uow, session.id, "two")

    await storage.session_holds.renew({session.id: "one"}, 60)
    async with storage.uow(ANNS) as work:
        with pytest.raises(ConcurrentChange, match=session.id):
            await work.sessions.write(session, "one", Addition([said("late")]), LATER)
    async with storage.uow(ANNS) as work:
        await work.sessions.write(session, "two", Addition([said("in time")]), LATER)
        await work.commit()
    assert await texts(storage.uow, session.id) == ["in time"]


async def test_a_hold_that_is_renewed_lasts(storage: Storage) -> None:
    session = await stored(storage.uow, a_session())
    await held(storage.uow, session.id, "one", for_s=0.2)
    await storage.session_holds.renew({session.id: "one"}, 60)
    await storage.session_holds.renew({}, 60)
    await asyncio.sleep(0.3)

    assert not await held(storage.uow, session.id, "two")


async def test_what_is_written_ends_the_hold_and_changes_the_revision(
    uow: UnitOfWorkFactory,
) -> None:
    session = await stored(uow, a_session(), said("1"))
    await held(uow, session.id, "one")
    async with uow(ANNS) as work:
        await work.sessions.write(session, "one", Addition([said("2"), said("3")]), LATER)
        with pytest.raises(ConcurrentChange):
            await work.sessions.write(session, "one", Addition([said("twice")]), LATER)
        await work.commit()

    async with uow(ANNS) as work:
        again = await work.sessions.get(session.id)
    assert (again.revision, again.length, again.updated_at) == ("one", 3, LATER)
    assert await texts(uow, session.id) == ["1", "2", "3"]
    assert await held(uow, session.id, "two")


async def test_a_write_that_is_not_committed_did_not_happen(uow: UnitOfWorkFactory) -> None:
    session = await stored(uow, a_session(), said("1"))
    await held(uow, session.id, "one")
    async with uow(ANNS) as work:
        await work.sessions.write(session, "one", Addition([said("2")], cut=0), LATER)

    assert await texts(uow, session.id) == ["1"]
    assert not await held(uow, session.id, "two")


async def test_memory_is_cut_back_and_goes_on_from_there(uow: UnitOfWorkFactory) -> None:
    session = await stored(uow, a_session(), *(said(str(n)) for n in range(5)))
    await held(uow, session.id, "one")
    async with uow(ANNS) as work:
        await work.sessions.write(session, "one", Addition([said("new")], cut=2), LATER)
        await work.commit()

    assert await texts(uow, session.id) == ["0", "1", "new"]
    async with uow(ANNS) as work:
        assert (await work.sessions.get(session.id)).length == 3


async def test_a_summary_is_kept_until_another_is_written(uow: UnitOfWorkFactory) -> None:
    session = await stored(uow, a_session(), said("1"))
    for holder, summary in (("one", "So far: 1."), ("two", None)):
        await held(uow, session.id, holder)
        async with uow(ANNS) as work:
            addition = Addition([said("2")], summary=summary, summarised=1)
            await work.sessions.write(session, holder, addition, LATER)
            await work.commit()
        async with uow(ANNS) as work:
            session = await work.sessions.get(session.id)
        assert (session.summary, session.summarised) == ("So far: 1.", 1)

    async with uow(ANNS) as work:
        since = await work.sessions.latest(session.id, None, since=session.summarised)
    assert [placed.position for placed in since] == [1, 2]


async def test_the_latest_items_come_in_their_order(uow: UnitOfWorkFactory) -> None:
    session = await stored(uow, a_session(), *(said(str(n)) for n in range(30)))

    async with uow(ANNS) as work:
        latest = await work.sessions.latest(session.id, 3)
    assert [placed.position for placed in latest] == [27, 28, 29]


async def test_items_are_paged_from_either_end(uow: UnitOfWorkFactory) -> None:
    items = [said(str(n)) for n in range(5)]
    session = await stored(uow, a_session(), *items)
    ids = [item.id for item in items]

    async with uow(ANNS) as work:

        async def page(after: ItemId | None, newest_first: bool) -> list[ItemId]:
            found = await work.sessions.items(
                session.id, limit=2, after=after, newest_first=newest_first
            )
            return [placed.item.id for placed in found]

        assert await page(None, False) == ids[:2]
        assert await page(ids[1], False) == ids[2:4]
        assert await page(ids[4], False) == []
        assert await page(None, True) == ids[:2:-1]
        assert await page(ids[1], True) == ids[:1]
        with pytest.raises(ItemNotFound):
            await page(ItemId("msg_404"), True)


async def test_one_item_is_removed_by_who_holds_the_session(uow: UnitOfWorkFactory) -> None:
    items = [said(str(n)) for n in range(3)]
    session = await stored(uow, a_session(), *items)
    await held(uow, session.id, "one")
    async with uow(ANNS) as work:
        with pytest.raises(ConcurrentChange):
            await work.sessions.remove_item(session, "two", items[1].id, LATER)
    async with uow(ANNS) as work:
        with pytest.raises(ItemNotFound):
            await work.sessions.remove_item(session, "one", ItemId("msg_404"), LATER)
        await work.sessions.remove_item(session, "one", items[1].id, LATER)
        await work.commit()

    assert await texts(uow, session.id) == ["0", "2"]
    async with uow(ANNS) as work:
        assert (await work.sessions.get(session.id)).length == 3
        with pytest.raises(ItemNotFound):
            await work.sessions.item(session.id, items[1].id)


async def test_metadata_may_change_while_the_session_is_held(uow: UnitOfWorkFactory) -> None:
    session = await stored(uow, a_session())
    await held(uow, session.id, "one")
    async with uow(ANNS) as work:
        await work.sessions.set_metadata(session.id, {"a": "b"}, LATER)
        await work.commit()
    async with uow(ANNS) as work:
        await work.sessions.write(session, "one", Addition([said("1")]), LATER)
        await work.commit()

    async with uow(ANNS) as work:
        assert (await work.sessions.get(session.id)).metadata == {"a": "b"}


async def test_a_session_goes_with_its_items(uow: UnitOfWorkFactory) -> None:
    item = said("1")
    session = await stored(uow, a_session("trip"), item)
    async with uow(ANNS) as work:
        await work.sessions.remove(session.id)
        await work.commit()

    async with uow(ALL) as work:
        assert await work.sessions.find(SessionName(LINE, "trip")) is None
        with pytest.raises(ItemNotFound):
            await work.sessions.item(session.id, item.id)
    await stored(uow, a_session("trip"))


async def test_sessions_that_nobody_uses_any_more_are_pruned(storage: Storage) -> None:
    old, held_old, used = [await stored(storage.uow, a_session(), said("1")) for _ in range(3)]
    await held(storage.uow, held_old.id, "one")
    await held(storage.uow, used.id, "one")
    async with storage.uow(ANNS) as work:
        await work.sessions.write(used, "one", Addition([said("2")]), LATER)
        await work.commit()

    assert await storage.session_holds.prune(minutes_past_noon(1)) == 1
    async with storage.uow(ANNS) as work:
        assert await work.sessions.find(old.id) is None
        assert await work.sessions.find(held_old.id)
        assert await work.sessions.find(used.id)


async def test_what_no_database_takes_is_an_invalid_value(uow: UnitOfWorkFactory) -> None:
    session = await stored(uow, a_session())
    await held(uow, session.id, "one")
    async with uow(ANNS) as work:
        addition = Addition([said("a\ud800b")])
        with pytest.raises(InvalidValue):
            await work.sessions.write(session, "one", addition, LATER)


async def test_a_name_too_long_for_an_index_is_an_invalid_value(uow: UnitOfWorkFactory) -> None:
    async with uow(ANNS) as work:
        with pytest.raises(InvalidValue):
            await work.sessions.add(a_session("n" * 257))
