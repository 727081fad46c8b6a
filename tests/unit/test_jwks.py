"""When an issuer's keys are read, and how long they are believed; time is the test's."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from runtime.domain.errors import TokenKeysUnavailable
from runtime.infrastructure.identity.jwks import AGAIN_AFTER_S, FRESH_S, KEEP_S, KeySet

KEY = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)


@dataclass
class Issuer:
    names: list[str] = field(default_factory=lambda: ["one"])
    away: bool = False
    asked: int = 0
    elapsed_s: float = 0

    def __post_init__(self) -> None:
        self.keys = KeySet(self.fetch, lambda: self.elapsed_s)

    async def fetch(self) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionError
        return json.dumps({"keys": [{**KEY, "kid": name} for name in self.names]}).encode()

    async def knows(self, kid: str | None) -> bool:
        return await self.keys.find(kid, "ES256") is not None


async def test_keys_are_read_once_for_many_who_ask_at_once() -> None:
    issuer = Issuer()
    assert issuer.asked == 0

    assert all(await asyncio.gather(*(issuer.knows("one") for _ in range(10))))
    assert issuer.asked == 1


async def test_unknown_names_make_it_ask_once_in_a_while() -> None:
    issuer = Issuer()
    await issuer.knows("one")
    issuer.names = ["two"]
    for _ in range(20):
        assert not await issuer.knows("two")
    assert issuer.asked == 1

    issuer.elapsed_s = AGAIN_AFTER_S
    assert await issuer.knows("two")
    assert not await issuer.knows("one")
    assert issuer.asked == 2


async def test_a_withdrawn_key_is_believed_for_ten_minutes() -> None:
    issuer = Issuer()
    await issuer.knows("one")
    issuer.names = ["two"]
    issuer.elapsed_s = FRESH_S - 1
    assert await issuer.knows("one")

    issuer.elapsed_s = FRESH_S
    assert not await issuer.knows("one")


async def test_while_the_issuer_is_away_its_keys_are_believed_for_an_hour() -> None:
    issuer = Issuer()
    await issuer.knows("one")
    issuer.away = True
    issuer.elapsed_s = KEEP_S - 1
    assert await issuer.knows("one")

    issuer.elapsed_s = KEEP_S
    with pytest.raises(TokenKeysUnavailable):
        await issuer.knows("one")
    issuer.away = False
    issuer.elapsed_s += AGAIN_AFTER_S
    assert await issuer.knows("one")


async def test_a_token_without_a_name_is_checked_by_the_only_key_or_by_none() -> None:
    issuer = Issuer()
    assert await issuer.knows(None)
    assert await Issuer(names=["one", "two"]).keys.find(None, "ES256") is None
    assert await issuer.keys.find("one", "RS256") is None
