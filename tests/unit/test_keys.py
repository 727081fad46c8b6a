"""Who may make and end which API key, on memory."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from runtime.application.commands.keys import CreateKey, RevokeKey
from runtime.application.handlers.keys import Created, CreateKeyHandler, RevokeKeyHandler
from runtime.application.queries.keys import KeyQueries
from runtime.domain.errors import Forbidden, InvalidValue, KeyNotFound
from runtime.domain.events.keys import KeyCreated, KeyRevoked
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import KeyId, LineId, ProjectId, UserId
from runtime.domain.value_objects.keys import KeyText
from tests.fakes import MemoryStore, Published, memory_unit_of_work

SECRET = b"the runtime's own"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADA = Principal(UserId("ada"), roles=frozenset({Role.ADMIN}))
ANN = Principal(UserId("ann"), roles=frozenset({Role.EDITOR}))
BEN = Principal(UserId("ben"), roles=frozenset({Role.EDITOR, Role.REVIEWER}))
ELSEWHERE = Principal(UserId("ada"), ProjectId("other"), roles=frozenset({Role.ADMIN}))
NARROW = Principal(
    UserId("ann"),
    roles=frozenset({Role.EDITOR}),
    limited_to=frozenset({KeyScope.KEYS, KeyScope.MODELS}),
)


class Desk:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.published = Published()
        self.uow = partial(memory_unit_of_work, self.store, self.published)

    async def create(self, actor: Principal = ANN, **fields: object) -> Created:
        command = {"actor": actor, "name": "CI", **fields}
        handle = CreateKeyHandler(self.uow, lambda: NOW, SECRET)
        return await handle(CreateKey(**command))  # type: ignore[arg-type]

    async def revoke(self, actor: Principal, id: KeyId) -> None:
        await RevokeKeyHandler(self.uow, lambda: NOW)(RevokeKey(actor=actor, id=id))

    async def listed(self, actor: Principal) -> list[KeyId]:
        page = await KeyQueries(self.uow).page(actor, limit=10, after=None)
        return [key.id for key in page.items]

    async def trail(self, id: KeyId) -> list[tuple[str, str]]:
        async with self.uow(ADA.scope) as work:
            page = await work.audit.of_line(LineId(id), limit=10, after=None)
        return [(entry.action, entry.actor_id) for entry in page.items]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_key_stands_for_its_owner_and_is_stored_as_a_hash(desk: Desk) -> None:
    created = await desk.create(roles=frozenset({Role.EDITOR}), lifetime=timedelta(days=1))
    key, text = created.key, created.text

    assert key.principal == replace(ANN, key_id=key.id)
    assert key.expires_at == NOW + timedelta(days=1)
    assert text.text.startswith(f"ar_{key.prefix}_")
    assert len(text.text) == 3 + 12 + 1 + 43
    assert text.matches(key.digest, SECRET)
    assert not text.matches(key.digest, b"another runtime's")
    assert text.text not in repr(created)
    assert text.text not in repr(desk.store.tables)
    assert desk.published == [KeyCreated(key.id)]
    assert await desk.trail(key.id) == [("create_key", "ann")]


def test_a_key_reads_back_by_its_form_only() -> None:
    text = KeyText.new()
    for _ in range(100):
        assert KeyText.parse(KeyText.new().text) is not None
    assert KeyText.parse(text.text) == text
    for other in (text.text[:-1], f"{text.text}x", f"{text.text}\n", text.text.upper()[:3], "ar__"):
        assert KeyText.parse(other) is None


async def test_nobody_makes_a_key_with_more_rights_than_they_have(desk: Desk) -> None:
    for actor, fields in (
        (ANN, {"roles": frozenset({Role.REVIEWER})}),
        (ANN, {"roles": frozenset({Role.EDITOR, Role.ADMIN})}),
        (ANN, {"owner_id": BEN.user_id}),
        (BEN, {"owner_id": ADA.user_id}),
        (NARROW, {"scopes": frozenset({KeyScope.AGENTS_WRITE})}),
        (NARROW, {"scopes": frozenset(KeyScope)}),
    ):
        with pytest.raises(Forbidden):
            await desk.create(actor, **fields)
    assert desk.store.tables.keys == {}


async def test_a_narrow_key_makes_no_wider_one(desk: Desk) -> None:
    assert (await desk.create(NARROW)).key.scopes == NARROW.limited_to
    only = frozenset({KeyScope.MODELS})
    assert (await desk.create(NARROW, scopes=only)).key.scopes == only


@pytest.mark.parametrize("fields", [{"name": " "}, {"roles": frozenset()}, {"scopes": frozenset()}])
async def test_a_key_without_a_name_a_role_or_a_scope_is_refused(
    desk: Desk, fields: dict[str, object]
) -> None:
    with pytest.raises(InvalidValue):
        await desk.create(**fields)  # type: ignore[arg-type]


async def test_an_admin_makes_keys_for_all_and_never_self_approving_ones(desk: Desk) -> None:
    created = await desk.create(ADA, owner_id=BEN.user_id, roles=BEN.roles)

    assert created.key.principal == replace(BEN, key_id=created.key.id)
    assert created.key.created_by == ADA.user_id
    assert not created.key.principal.may_self_approve


async def test_keys_are_seen_and_ended_by_their_owner_and_by_admins(desk: Desk) -> None:
    anns, bens = (await desk.create(ANN)).key, (await desk.create(BEN)).key

    assert await desk.listed(ANN) == [anns.id]
    assert set(await desk.listed(ADA)) == {anns.id, bens.id}
    assert await desk.listed(ELSEWHERE) == []
    for actor in (BEN, ELSEWHERE):
        with pytest.raises(KeyNotFound):
            await desk.revoke(actor, anns.id)
    await desk.revoke(ANN, anns.id)
    await desk.revoke(ADA, bens.id)
    await desk.revoke(ADA, bens.id)

    assert not any(key.live_at(NOW) for key in desk.store.tables.keys.values())
    assert KeyRevoked(anns.id) in desk.published
    assert ("revoke_key", "ann") in await desk.trail(anns.id)


async def test_a_key_that_is_not_for_keys_manages_none(desk: Desk) -> None:
    models_only = Principal(UserId("ann"), limited_to=frozenset({KeyScope.MODELS}))
    for attempt in (
        desk.create(models_only),
        desk.listed(models_only),
        desk.revoke(models_only, KeyId("key_1")),
    ):
        with pytest.raises(Forbidden, match="'keys'"):
            await attempt
