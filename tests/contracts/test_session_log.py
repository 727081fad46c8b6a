"""What every turn takes, done together with other turns: as by the repository, only cheaper."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from runtime.domain.entities.sessions import Session
from runtime.domain.errors import ConversationNotFound, InvalidValue
from runtime.domain.repositories.sessions import (
    Addition,
    SessionKey,
    SessionName,
    TakeSession,
    WriteTurn,
)
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import LineId, SessionId
from tests.contracts.conftest import Storage
from tests.contracts.samples import BOB, OTHER_PROJECT, PROJECT, all_of, minutes_past_noon
from tests.contracts.test_sessions import ANNS, BOBS, LATER, LINE, a_session, said, stored, texts


def take(
    key: SessionKey,
    by: str,
    *,
    scope: Scope = ANNS,
    for_s: float = 60,
    begin: Session | None = None,
) -> TakeSession:
    return TakeSession(scope, key, by, for_s, begin)


def write(session: Session, by: str, *words: str, scope: Scope = ANNS, **fields: int) -> WriteTurn:
    addition = Addition([said(word) for word in words], **fields)  # type: ignore[arg-type]
    return WriteTurn(scope, session, by, addition, LATER)


async def ids(storage: Storage, *operations: TakeSession) -> Sequence[object]:
    found = await storage.session_log.apply(operations)
    return [each.id if isinstance(each, Session) else each for each in found]


async def test_a_session_that_is_taken_is_as_it_is_stored(storage: Storage) -> None:
    for made in (a_session("trip"), a_session()):
        session = await stored(storage.uow, made, said("1"))
        assert await storage.session_log.apply([take(session.id, "one")]) != [None]
        async with storage.uow(ANNS) as work:
            await work.sessions.release(session.id, "one")
            await work.commit()
            again = await work.sessions.get(session.id)
        (found,) = await storage.session_log.apply([take(session.id, "two")])
        assert found == again == session


async def test_a_name_that_is_new_begins_a_session(storage: Storage) -> None:
    first, second = a_session("trip"), a_session("trip")
    key = SessionName(LINE, "trip")

    assert await ids(storage, take(key, "one", begin=first)) == [first.id]
    assert await ids(storage, take(key, "two", begin=second)) == [None]
    async with storage.uow(ANNS) as work:
        assert await work.sessions.get(first.id) == first
        await work.sessions.release(first.id, "one")
        await work.commit()
    assert await ids(storage, take(key, "two", begin=second)) == [first.id]


async def test_of_many_who_begin_it_at_once_one_has_it(storage: Storage) -> None:
    key = SessionName(LINE, "trip")
    takes = [take(key, f"by {n}", begin=a_session("trip")) for n in range(6)]
    found = await ids(storage, *takes[:3])
    found = [*found, *await asyncio.gather(*(ids(storage, each) for each in takes[3:]))]

    assert sum(each not in (None, [None]) for each in found) == 1


async def test_a_foreign_session_is_not_found_like_an_unknown_one(storage: Storage) -> None:
    session = await stored(storage.uow, a_session("trip"))
    scopes = [BOBS, all_of(OTHER_PROJECT), Scope(OTHER_PROJECT, ANNS.user_id)]
    for scope in scopes:
        for id in (session.id, SessionId("conv_404")):
            (found,) = await storage.session_log.apply([take(id, "thief", scope=scope)])
            assert isinstance(found, ConversationNotFound)
            assert id in str(found)
    admin = all_of(PROJECT, BOB)
    assert await ids(storage, take(session.id, "admin", scope=admin)) == [session.id]
    for scope in scopes:
        assert await storage.session_log.apply([write(session, "admin", "x", scope=scope)]) == [
            False
        ]
    assert await storage.session_log.apply([write(session, "admin", "x", scope=admin)]) == [True]
    assert await texts(storage.uow, session.id) == ["x"]


async def test_turns_of_many_sessions_are_written_together(storage: Storage) -> None:
    sessions = [await stored(storage.uow, a_session(), said("1")) for _ in range(4)]
    await storage.session_log.apply([take(each.id, "one") for each in sessions])
    lost = replace(sessions[3])
    results = await storage.session_log.apply(
        [
            write(sessions[0], "one", "2", "3"),
            write(sessions[1], "one", "new", cut=0),
            write(sessions[2], "one"),
            write(lost, "somebody else", "never", cut=0),
            take(sessions[3].id, "two"),
        ]
    )

    assert results == [True, True, True, False, None]
    assert await texts(storage.uow, sessions[0].id) == ["1", "2", "3"]
    assert await texts(storage.uow, sessions[1].id) == ["new"]
    assert await texts(storage.uow, sessions[2].id) == ["1"]
    assert await texts(storage.uow, sessions[3].id) == ["1"]
    async with storage.uow(ANNS) as work:
        again = await work.sessions.get(sessions[0].id)
    assert (again.revision, again.length, again.updated_at) == ("one", 3, LATER)


async def test_a_turn_is_written_once_and_ends_the_hold(storage: Storage) -> None:
    session = await stored(storage.uow, a_session())
    await storage.session_log.apply([take(session.id, "one")])

    assert await storage.session_log.apply([write(session, "one", "1")]) == [True]
    assert await storage.session_log.apply([write(session, "one", "1")]) == [False]
    assert await ids(storage, take(session.id, "two")) == [session.id]
    assert await texts(storage.uow, session.id) == ["1"]


async def test_a_hold_that_has_run_out_is_anybody_s(storage: Storage) -> None:
    session = await stored(storage.uow, a_session())
    await storage.session_log.apply([take(session.id, "one", for_s=0.05)])
    await asyncio.sleep(0.1)

    assert await ids(storage, take(session.id, "two")) == [session.id]
    assert await storage.session_log.apply([write(session, "one", "late")]) == [False]
    assert await storage.session_log.apply([write(session, "two", "in time")]) == [True]
    assert await texts(storage.uow, session.id) == ["in time"]


async def test_a_summary_goes_with_the_turn(storage: Storage) -> None:
    session = await stored(storage.uow, a_session())
    await storage.session_log.apply([take(session.id, "one")])
    addition = Addition([said("1")], summary="So far.", summarised=1)
    await storage.session_log.apply([WriteTurn(ANNS, session, "one", addition, LATER)])

    async with storage.uow(ANNS) as work:
        again = await work.sessions.get(session.id)
    assert (again.summary, again.summarised) == ("So far.", 1)


async def test_what_can_not_be_stored_is_refused_before_anything_is_written(
    storage: Storage,
) -> None:
    session = await stored(storage.uow, a_session())
    await storage.session_log.apply([take(session.id, "one")])
    with pytest.raises(InvalidValue):
        await storage.session_log.apply([write(session, "one", "a\ud800b")])
    long = replace(a_session("n" * 257), line_id=LineId("line_1"), created_at=minutes_past_noon(1))
    with pytest.raises(InvalidValue):
        await storage.session_log.apply([take(SessionName(LINE, "n" * 257), "x", begin=long)])

    assert await storage.session_log.apply([write(session, "one", "fine")]) == [True]
