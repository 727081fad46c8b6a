from dataclasses import replace
from datetime import timedelta

import pytest

from runtime.domain.entities.keys import ApiKey
from runtime.domain.errors import InvalidValue, KeyNotFound
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Role, Scope
from runtime.domain.value_objects.ids import KeyId, new_key_id
from tests.contracts.conftest import Storage
from tests.contracts.samples import (
    ALL,
    ANN,
    BOB,
    NOON,
    OTHER_PROJECT,
    PROJECT,
    all_of,
    minutes_past_noon,
)

ANNS = Scope(PROJECT, ANN)
BOBS = Scope(PROJECT, BOB)


def a_key(**changes: object) -> ApiKey:
    id = new_key_id()
    key = ApiKey(
        id=id,
        prefix=id[-12:],
        digest="d" * 64,
        name="CI ü",
        project_id=PROJECT,
        owner_id=ANN,
        roles=frozenset({Role.EDITOR, Role.REVIEWER}),
        scopes=frozenset({KeyScope.MODELS, KeyScope.KEYS}),
        created_at=NOON,
        created_by=BOB,
        expires_at=minutes_past_noon(60),
        last_used_at=minutes_past_noon(5),
    )
    return replace(key, **changes)  # type: ignore[arg-type]


async def add(uow: UnitOfWorkFactory, *keys: ApiKey) -> None:
    for key in keys:
        async with uow(all_of(key.project_id)) as work:
            await work.keys.add(key)
            await work.commit()


async def listed(uow: UnitOfWorkFactory, scope: Scope, limit: int = 10) -> list[str]:
    names: list[str] = []
    after = None
    while True:
        async with uow(scope) as work:
            page = await work.keys.page(limit=limit, after=after)
        names += [key.name for key in page.items]
        after = page.next_cursor
        if after is None:
            return names


async def test_a_key_reads_back_the_same(storage: Storage) -> None:
    full = a_key(revoked_at=minutes_past_noon(1))
    bare = a_key(scopes=None, expires_at=None, last_used_at=None)
    await add(storage.uow, full, bare)

    for key in (full, bare):
        async with storage.uow(ALL) as work:
            assert vars(await work.keys.get(key.id)) == vars(key)
        found = await storage.key_ring.find(key.prefix)
        assert found is not None
        assert vars(found) == vars(key)


async def test_an_unknown_key_is_not_found(storage: Storage) -> None:
    async with storage.uow(ALL) as work:
        with pytest.raises(KeyNotFound, match=r"^Key 'key_404' does not exist\.$"):
            await work.keys.get(KeyId("key_404"))
    assert await storage.key_ring.find("nobody") is None


@pytest.mark.parametrize("scope", [BOBS, Scope(PROJECT, BOB, sees_all=True), all_of(OTHER_PROJECT)])
async def test_a_key_of_somebody_else_does_not_exist(uow: UnitOfWorkFactory, scope: Scope) -> None:
    key = a_key()
    await add(uow, key)

    async with uow(scope) as work:
        with pytest.raises(KeyNotFound, match=f"^Key '{key.id}' does not exist.$"):
            await work.keys.get(key.id)
        key.revoke(NOON)
        with pytest.raises(KeyNotFound):
            await work.keys.save(key)
    assert await listed(uow, scope) == []
    async with uow(ANNS) as work:
        assert (await work.keys.get(key.id)).revoked_at is None


async def test_a_key_of_another_owner_is_not_added(uow: UnitOfWorkFactory) -> None:
    async with uow(BOBS) as work:
        with pytest.raises(ValueError, match="somebody else"):
            await work.keys.add(a_key())


async def test_pages_are_newest_first_and_ones_own(uow: UnitOfWorkFactory) -> None:
    keys = [a_key(name=f"{n}", created_at=minutes_past_noon(n)) for n in (2, 0, 1, 4)]
    bobs = a_key(name="3", owner_id=BOB, created_at=minutes_past_noon(3))
    theirs = a_key(name="5", project_id=OTHER_PROJECT)
    await add(uow, *keys, bobs, theirs)

    assert await listed(uow, ALL, limit=2) == ["4", "3", "2", "1", "0"]
    assert await listed(uow, ANNS, limit=3) == ["4", "2", "1", "0"]
    assert await listed(uow, BOBS) == ["3"]


async def test_a_cursor_that_is_none_is_refused(uow: UnitOfWorkFactory) -> None:
    async with uow(ALL) as work:
        with pytest.raises(InvalidValue) as refusal:
            await work.keys.page(limit=2, after="garbage")
    assert refusal.value.param == "after"


async def test_the_first_revocation_stays(storage: Storage) -> None:
    key = a_key()
    await add(storage.uow, key)
    async with storage.uow(ANNS) as one, storage.uow(ALL) as other:
        mine, theirs = await one.keys.get(key.id), await other.keys.get(key.id)
        mine.revoke(minutes_past_noon(1))
        await one.keys.save(mine)
        await one.commit()
        theirs.revoke(minutes_past_noon(2))
        await other.keys.save(theirs)
        await other.commit()

    found = await storage.key_ring.find(key.prefix)
    assert found is not None
    assert found.revoked_at == minutes_past_noon(1)


async def test_only_a_live_key_counts(storage: Storage) -> None:
    after = minutes_past_noon(30)
    assert not await storage.key_ring.any_live(NOON)
    await add(storage.uow, a_key(revoked_at=NOON), a_key(expires_at=after))

    assert await storage.key_ring.any_live(after - timedelta(microseconds=1))
    assert not await storage.key_ring.any_live(after)
    await add(storage.uow, a_key(expires_at=None, project_id=OTHER_PROJECT))
    assert await storage.key_ring.any_live(after)


async def test_a_use_moves_on_and_never_back(storage: Storage) -> None:
    first, second = a_key(last_used_at=None), a_key()
    await add(storage.uow, first, second)
    early, late = minutes_past_noon(1), minutes_past_noon(9)

    await storage.key_ring.note_uses({first.id: late, second.id: early, KeyId("gone"): late})

    for key, used in ((first, late), (second, minutes_past_noon(5))):
        found = await storage.key_ring.find(key.prefix)
        assert found is not None
        assert found.last_used_at == used
