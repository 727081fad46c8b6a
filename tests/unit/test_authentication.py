"""From carried credentials to a principal, on fakes; time is the test's."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from runtime.application.commands.keys import CreateKey
from runtime.application.handlers.keys import CreateKeyHandler
from runtime.application.services.authentication import CredentialAuthenticator
from runtime.domain.entities.keys import ApiKey
from runtime.domain.errors import Unauthenticated
from runtime.domain.events.keys import KeyRevoked
from runtime.domain.services.identity import TokenVerifier, VerifiedToken
from runtime.domain.value_objects.identity import LOCAL_ADMIN, PLATFORM, Principal, Role
from runtime.domain.value_objects.ids import KeyId, UserId
from tests.fakes import MemoryKeyRing, MemoryStore, Published, memory_unit_of_work

SECRETS = (b"the runtime's own", b"the one before")
START = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = ("the-platform-s-token", "the-next-one")
WITHIN_S = 5.0


@dataclass
class Tokens(TokenVerifier):
    """Takes every token that begins with `jwt`, for a minute."""

    until: datetime = START + timedelta(minutes=1)
    withdrawn: bool = False

    async def verify(self, token: str) -> VerifiedToken:
        if self.withdrawn or not token.startswith("jwt"):
            raise Unauthenticated("no")
        return VerifiedToken(Principal(UserId(token)), self.until)


@dataclass
class CountingRing(MemoryKeyRing):
    store: MemoryStore
    reads: int = 0
    meanwhile: Callable[[], Awaitable[None]] | None = None
    """What happens while a key is read."""

    def __post_init__(self) -> None:
        super().__init__(self.store)

    async def find(self, prefix: str) -> ApiKey | None:
        self.reads += 1
        found = await super().find(prefix)
        if self.meanwhile:
            await self.meanwhile()
        return found

    async def any_live(self, at: datetime) -> bool:
        self.reads += 1
        return await super().any_live(at)


@dataclass
class Door:
    tokens: Collection[str] = ()
    jwt: TokenVerifier | None = None
    elapsed_s: float = 0
    secret: bytes = SECRETS[0]
    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        self.ring = CountingRing(self.store)
        self.authenticator = CredentialAuthenticator(
            tuple(self.tokens), self.ring, SECRETS, self.jwt, self.now, lambda: self.elapsed_s
        )

    def now(self) -> datetime:
        return START + timedelta(seconds=self.elapsed_s)

    async def key(self, lifetime_s: float | None = None) -> tuple[str, KeyId]:
        """Made behind the authenticator's back, as another process would."""
        uow = partial(memory_unit_of_work, self.store, Published())
        command = CreateKey(
            actor=LOCAL_ADMIN,
            name="CI",
            owner_id=UserId("ann"),
            roles=frozenset({Role.EDITOR}),
            lifetime=timedelta(seconds=lifetime_s) if lifetime_s else None,
        )
        created = await CreateKeyHandler(uow, self.now, self.secret)(command)
        return created.text.text, created.key.id

    def revoke(self, id: KeyId) -> None:
        keys = self.store.tables.keys
        keys[id] = replace(keys[id], revoked_at=self.now())

    async def asks(self, *carried: str, from_here: bool = True) -> str:
        caller = await self.authenticator.authenticate(set(carried), from_here=from_here)
        return caller.user_id

    async def refused(self, *carried: str, from_here: bool = True) -> bool:
        try:
            await self.asks(*carried, from_here=from_here)
        except Unauthenticated:
            return True
        return False


async def test_without_any_credential_loopback_is_the_local_admin() -> None:
    door = Door()

    assert await door.asks() == await door.asks("sk-whatever") == LOCAL_ADMIN.user_id
    assert await door.refused(from_here=False)
    assert await door.refused("sk-whatever", from_here=False)


@pytest.mark.parametrize("door", [Door(tokens=TOKENS), Door(jwt=Tokens())], ids=["token", "jwt"])
async def test_with_a_credential_nobody_is_anonymous(door: Door) -> None:
    for carried in ([], ["sk-whatever"], ["the-platform-s-toke"], ["the-platform-s-token "]):
        assert await door.refused(*carried)


async def test_every_platform_token_is_the_platform() -> None:
    door = Door(tokens=TOKENS)
    for token in TOKENS:
        assert await door.asks(token, from_here=False) == PLATFORM.user_id


async def test_a_live_key_ends_anonymity_within_5_s_and_is_its_owner_at_once() -> None:
    door = Door()
    assert await door.asks() == LOCAL_ADMIN.user_id
    key, id = await door.key()

    assert await door.asks(key, from_here=False) == "ann"
    door.elapsed_s += WITHIN_S
    assert await door.refused()
    assert await door.refused("sk-whatever")
    door.revoke(id)
    door.elapsed_s += WITHIN_S
    assert await door.asks() == LOCAL_ADMIN.user_id


async def test_a_key_of_our_own_ends_anonymity_at_once() -> None:
    door = Door()
    await door.asks()
    _, id = await door.key()
    await door.authenticator.forget(KeyRevoked(id))

    assert await door.refused()


async def test_what_looks_like_a_key_is_never_taken_for_nobody() -> None:
    door = Door()
    key, id = await door.key()
    door.revoke(id)

    assert await door.refused(key)
    assert await door.refused(f"ar_{'x' * 12}_{'y' * 43}")


@pytest.mark.parametrize(
    "wrong", ["truncated", "longer", "other secret", "other prefix", "swapped"]
)
async def test_a_key_that_is_not_exactly_it_is_refused(wrong: str) -> None:
    door = Door(tokens=TOKENS)
    key, _ = await door.key()
    other, _ = await door.key()
    changed = {
        "truncated": key[:-1],
        "longer": f"{key}A",
        "other secret": key[:-1] + ("A" if key[-1] != "A" else "B"),
        "other prefix": "ar_" + "A" * 12 + key[15:],
        "swapped": other[:15] + key[15:],
    }[wrong]

    assert await door.refused(changed)
    assert await door.asks(key) == "ann"


async def test_a_key_outlives_the_replacement_of_the_runtime_s_own() -> None:
    for secret, refused in ((SECRETS[1], False), (b"another runtime's", True)):
        door = Door(tokens=TOKENS, secret=secret)
        key, _ = await door.key()
        assert await door.refused(key) == refused


async def test_a_revoked_key_is_refused_within_5_s_and_ours_at_once() -> None:
    door = Door(tokens=TOKENS)
    key, id = await door.key()
    await door.asks(key)
    door.revoke(id)
    door.elapsed_s += WITHIN_S
    assert await door.refused(key)

    key, id = await door.key()
    await door.asks(key)
    door.revoke(id)
    await door.authenticator.forget(KeyRevoked(id))
    assert await door.refused(key)


async def test_a_revocation_while_the_key_is_read_is_not_missed() -> None:
    door = Door(tokens=TOKENS)
    key, id = await door.key()

    async def revoke() -> None:
        door.revoke(id)
        await door.authenticator.forget(KeyRevoked(id))

    door.ring.meanwhile = revoke
    await door.asks(key)
    door.ring.meanwhile = None
    assert await door.refused(key)


async def test_an_expired_key_is_refused_even_while_it_is_remembered() -> None:
    door = Door(tokens=TOKENS)
    key, _ = await door.key(lifetime_s=1)
    await door.asks(key)
    door.elapsed_s = 1

    assert await door.refused(key)


async def test_a_key_is_looked_up_once_in_a_while_and_a_failure_each_time() -> None:
    door = Door(tokens=TOKENS)
    key, _ = await door.key()
    for _ in range(5):
        await door.asks(key)
    assert door.ring.reads == 1

    for _ in range(3):
        assert await door.refused(key[:-1] + "-")
    assert door.ring.reads == 4


async def test_a_jwt_is_its_principal_until_it_expires() -> None:
    door = Door(jwt=Tokens())
    assert await door.asks("jwt-of-ann", from_here=False) == "jwt-of-ann"
    assert await door.asks("jwt-of-ben", from_here=False) == "jwt-of-ben"

    tokens = Tokens(until=START + timedelta(seconds=1))
    door = Door(jwt=tokens)
    await door.asks("jwt-of-ann")
    tokens.withdrawn = True
    assert await door.asks("jwt-of-ann") == "jwt-of-ann"
    door.elapsed_s = 1
    assert await door.refused("jwt-of-ann")


async def test_two_carriers_that_disagree_are_refused_even_if_both_are_good() -> None:
    door = Door(tokens=TOKENS)
    assert await door.refused(*TOKENS)
    assert await Door().refused("a", "b")


async def test_uses_are_noted_coarsely_and_written_later() -> None:
    door = Door(tokens=TOKENS)
    key, id = await door.key()
    await door.asks(key)
    assert door.store.tables.keys[id].last_used_at is None
    await door.authenticator.write_uses()
    assert door.store.tables.keys[id].last_used_at == START

    door.elapsed_s = 60
    await door.asks(key)
    await door.authenticator.write_uses()
    assert door.store.tables.keys[id].last_used_at == START
    door.elapsed_s = 3_600
    await door.asks(key)
    await door.authenticator.write_uses()
    assert door.store.tables.keys[id].last_used_at == door.now()
