import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from runtime.domain.repositories.idempotency import IdempotencyStore, Occupied
from runtime.domain.value_objects.idempotency import Claim, IdempotencyKey
from runtime.domain.value_objects.ids import ProjectId, UserId, uuid7_hex
from runtime.infrastructure.repositories.idempotency import SqlIdempotencyStore
from tests.contracts.conftest import Connect, Storage
from tests.contracts.samples import ANN, BOB, NOON, OTHER_PROJECT, PROJECT, minutes_past_noon

LATER = minutes_past_noon(1)
"""The end of a lease."""
TOMORROW = NOON + timedelta(days=1)


@pytest.fixture
def store(storage: Storage) -> IdempotencyStore:
    return storage.idempotency


def a_claim(
    text: str = "k-1",
    fingerprint: str = "f" * 64,
    *,
    owner: UserId = ANN,
    project: ProjectId = PROJECT,
) -> Claim:
    return Claim(IdempotencyKey(project, owner, text), fingerprint, uuid7_hex())


def of_the_same_key(claim: Claim) -> Claim:
    return replace(claim, token=uuid7_hex())


async def test_a_key_is_claimed_once(store: IdempotencyStore) -> None:
    first = a_claim()
    assert await store.claim(first, now=NOON, until=LATER) is None

    again = await store.claim(of_the_same_key(first), now=NOON, until=LATER)
    other = await store.claim(a_claim(fingerprint="0" * 64), now=NOON, until=LATER)

    assert again == other == Occupied(first.fingerprint, done=False)


async def test_of_many_claims_at_once_one_succeeds(store: IdempotencyStore) -> None:
    claims = [of_the_same_key(a_claim()) for _ in range(20)]
    found = await asyncio.gather(*(store.claim(each, now=NOON, until=LATER) for each in claims))

    assert sum(each is None for each in found) == 1


async def test_of_two_replicas_one_takes_over_a_lease_that_is_over(
    storage: Storage, storage_url: str, connect: Connect
) -> None:
    store = storage.idempotency
    memory = storage_url == "memory:"
    stores = (store, store if memory else SqlIdempotencyStore(connect(storage_url)))
    for number in range(10):
        late = a_claim(f"k-{number}")
        assert await store.claim(late, now=NOON, until=LATER) is None
        rivals = [of_the_same_key(late) for _ in range(6)]
        found = await asyncio.gather(
            *(stores[n % 2].claim(each, now=LATER, until=TOMORROW) for n, each in enumerate(rivals))
        )

        assert sum(each is None for each in found) == 1
        winner = rivals[found.index(None)]
        assert not await store.keep(late, "late", until=TOMORROW)
        await store.release(late)
        assert await store.keep(winner, "won", until=TOMORROW)


@pytest.mark.parametrize(
    "other",
    [a_claim("k-2"), a_claim("K-1"), a_claim(owner=BOB), a_claim(project=OTHER_PROJECT)],
)
async def test_another_callers_key_is_another_key(store: IdempotencyStore, other: Claim) -> None:
    mine = a_claim()
    assert await store.claim(mine, now=NOON, until=LATER) is None
    assert await store.keep(mine, "sealed", until=TOMORROW)

    assert await store.claim(of_the_same_key(other), now=NOON, until=LATER) is None


@pytest.mark.parametrize("answer", ["sealed ü", None])
async def test_a_kept_answer_is_found_until_its_time_has_come(
    store: IdempotencyStore, answer: str | None
) -> None:
    claim = a_claim()
    await store.claim(claim, now=NOON, until=LATER)
    assert await store.keep(claim, answer, until=TOMORROW)

    just_before = TOMORROW - timedelta(microseconds=1)
    found = await store.claim(of_the_same_key(claim), now=just_before, until=TOMORROW)
    assert found == Occupied(claim.fingerprint, done=True, answer=answer)
    assert await store.claim(of_the_same_key(claim), now=TOMORROW, until=TOMORROW) is None


async def test_a_kept_answer_is_neither_kept_twice_nor_released_nor_renewed(
    store: IdempotencyStore,
) -> None:
    claim = a_claim()
    await store.claim(claim, now=NOON, until=LATER)
    await store.keep(claim, "first", until=LATER)

    assert not await store.keep(claim, "second", until=TOMORROW)
    await store.release(claim)
    await store.renew([claim.token], until=TOMORROW)

    found = await store.claim(of_the_same_key(claim), now=NOON, until=LATER)
    assert found == Occupied(claim.fingerprint, done=True, answer="first")
    assert await store.claim(of_the_same_key(claim), now=LATER, until=TOMORROW) is None


async def test_a_released_key_is_free(store: IdempotencyStore) -> None:
    claim = a_claim()
    await store.claim(claim, now=NOON, until=LATER)
    await store.release(of_the_same_key(claim))
    assert await store.claim(of_the_same_key(claim), now=NOON, until=LATER) is not None
    await store.release(claim)

    other = a_claim(fingerprint="0" * 64)
    assert await store.claim(other, now=NOON, until=LATER) is None


async def test_a_renewed_claim_outlasts_its_first_lease(store: IdempotencyStore) -> None:
    claims = [a_claim(f"k-{number}") for number in range(1_100)]
    some = claims[::100]
    for claim in some:
        await store.claim(claim, now=NOON, until=LATER)
    await store.renew([claim.token for claim in claims], until=TOMORROW)

    for claim in some:
        assert await store.claim(of_the_same_key(claim), now=LATER, until=TOMORROW) is not None


async def test_what_was_taken_over_is_not_renewed(store: IdempotencyStore) -> None:
    late = a_claim()
    await store.claim(late, now=NOON, until=LATER)
    next_one = of_the_same_key(late)
    until = LATER + timedelta(minutes=1)
    assert await store.claim(next_one, now=LATER, until=until) is None
    await store.renew([late.token], until=TOMORROW)

    assert await store.claim(of_the_same_key(late), now=until, until=TOMORROW) is None


async def test_what_is_over_is_pruned_a_bounded_number_at_a_time(store: IdempotencyStore) -> None:
    old = [a_claim(f"k-{number}") for number in range(3)]
    live = a_claim("live")
    for claim in old:
        await store.claim(claim, now=NOON, until=LATER)
    await store.keep(old[0], "sealed", until=LATER)
    await store.claim(live, now=NOON, until=TOMORROW)

    assert [await store.prune(now=LATER, limit=2) for _ in range(3)] == [2, 1, 0]
    assert not await store.keep(old[1], "too late", until=TOMORROW)
    assert await store.keep(live, "sealed", until=TOMORROW)
