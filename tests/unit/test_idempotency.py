import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from runtime.application.services.idempotency import IdempotentRequests
from runtime.domain.errors import (
    AnswerNotKept,
    DatabaseUnavailable,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidValue,
)
from runtime.domain.value_objects.idempotency import Claim, IdempotencyKey, KeptAnswer
from runtime.domain.value_objects.ids import ProjectId, UserId
from runtime.infrastructure.secrets import SecretBox
from tests.fakes_idempotency import MemoryIdempotencyStore

KEY = IdempotencyKey(ProjectId("default"), UserId("ann"), "k-1")
ANSWER = KeptAnswer(201, [("content-type", "application/json")], b'{"key": "\xff"}')
MASTER = b"a master key that is long enough"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Failing(MemoryIdempotencyStore):
    """As long as it is away, nothing is stored."""

    away: Exception | None = None

    async def keep(self, claim: Claim, answer: str | None, *, until: datetime) -> bool:
        if self.away:
            raise self.away
        return await super().keep(claim, answer, until=until)

    async def release(self, claim: Claim) -> None:
        if self.away:
            raise self.away
        await super().release(claim)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Failing:
    return Failing()


@pytest.fixture
def another(store: Failing, clock: Clock) -> Callable[..., IdempotentRequests]:
    """A replica, with the runtime's key or another one."""

    def make(key: bytes = MASTER, lease_s: float = 15) -> IdempotentRequests:
        return IdempotentRequests(store, SecretBox(key), clock, retention_s=60, lease_s=lease_s)

    return make


@pytest.fixture
def requests(another: Callable[..., IdempotentRequests]) -> IdempotentRequests:
    return another()


async def claimed(requests: IdempotentRequests, fingerprint: str = "f") -> Claim:
    claim = await requests.claim(KEY, fingerprint)
    assert isinstance(claim, Claim)
    return claim


@pytest.mark.parametrize("text", ["", " ", "a b", "tab\t", "ü", "\x7f", "a\n", "x" * 256])
def test_a_key_is_visible_ascii_of_bounded_length(text: str) -> None:
    with pytest.raises(InvalidValue, match="visible ASCII") as refusal:
        replace(KEY, text=text)
    assert refusal.value.param == "Idempotency-Key"


@pytest.mark.parametrize("text", ["!", "~", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
def test_any_visible_ascii_makes_a_key(text: str) -> None:
    assert replace(KEY, text=text).text == text


async def test_an_answer_is_found_by_who_asks_again_on_any_replica(
    requests: IdempotentRequests, another: Callable[..., IdempotentRequests]
) -> None:
    await requests.keep(await claimed(requests), ANSWER)

    assert await another().claim(KEY, "f") == ANSWER


async def test_an_answer_is_sealed_and_bound_to_its_place(
    requests: IdempotentRequests, store: Failing
) -> None:
    answer = replace(ANSWER, body=b"a secret")
    await requests.keep(await claimed(requests), answer)
    row = store.rows[KEY]
    assert row.answer is not None
    assert "secret" not in row.answer

    stolen = replace(KEY, owner_id=UserId("bob"))
    store.rows[stolen] = row
    with pytest.raises(AnswerNotKept, match="sealed with a key that is gone"):
        await requests.claim(stolen, "f")


async def test_an_answer_under_a_key_that_is_gone_is_not_made_again(
    requests: IdempotentRequests, another: Callable[..., IdempotentRequests]
) -> None:
    await requests.keep(await claimed(requests), ANSWER)

    with pytest.raises(AnswerNotKept):
        await another(b"another key that is long enough").claim(KEY, "f")


async def test_in_flight_the_key_is_in_use_and_another_request_is_told_so(
    requests: IdempotentRequests,
) -> None:
    await claimed(requests)

    with pytest.raises(IdempotencyKeyInUse) as refusal:
        await requests.claim(KEY, "f")
    assert (refusal.value.retryable, refusal.value.retry_after_s) == (True, 1)
    with pytest.raises(IdempotencyKeyReused):
        await requests.claim(KEY, "g")


async def test_a_released_key_is_anybodys_request(requests: IdempotentRequests) -> None:
    await requests.release(await claimed(requests))

    await claimed(requests, "g")


async def test_a_claim_lasts_as_long_as_it_is_renewed(
    requests: IdempotentRequests, another: Callable[..., IdempotentRequests], clock: Clock
) -> None:
    await claimed(requests)
    for _ in range(5):
        clock.tick(10)
        await requests.renew()
        with pytest.raises(IdempotencyKeyInUse):
            await another().claim(KEY, "f")

    clock.tick(15)
    await claimed(another())


async def test_what_has_ended_is_renewed_no_more(
    requests: IdempotentRequests, store: Failing, clock: Clock
) -> None:
    store.away = DatabaseUnavailable()
    await requests.release(await claimed(requests))
    clock.tick(15)
    await requests.keep(await claimed(requests), ANSWER)
    clock.tick(14)
    await requests.renew()

    clock.tick(1)
    await claimed(requests)


@pytest.mark.parametrize("error", [DatabaseUnavailable(), ValueError("a bug")])
async def test_what_can_not_be_kept_does_not_disturb_the_answer(
    requests: IdempotentRequests, store: Failing, clock: Clock, error: Exception
) -> None:
    claim = await claimed(requests)
    store.away = error
    await requests.keep(claim, ANSWER)

    with pytest.raises(IdempotencyKeyInUse):
        await requests.claim(KEY, "f")
    clock.tick(15)
    await claimed(requests)


async def test_who_lost_the_lease_changes_nothing(
    requests: IdempotentRequests, another: Callable[..., IdempotentRequests], clock: Clock
) -> None:
    late = await claimed(requests)
    clock.tick(15)
    other = another()
    winner = await claimed(other)
    await requests.keep(late, replace(ANSWER, body=b"late"))
    await requests.release(late)
    await other.keep(winner, ANSWER)

    assert await requests.claim(KEY, "f") == ANSWER


async def test_an_answer_is_kept_for_its_time_and_pruned_after_it(
    requests: IdempotentRequests, store: Failing, clock: Clock
) -> None:
    await requests.keep(await claimed(requests), ANSWER)
    clock.tick(59)
    await requests.prune()
    assert await requests.claim(KEY, "f") == ANSWER

    clock.tick(1)
    await requests.prune()
    assert store.rows == {}


async def test_leases_are_renewed_by_themselves(
    another: Callable[..., IdempotentRequests], store: Failing, clock: Clock
) -> None:
    requests = another(lease_s=0.03)
    requests.start()
    claim = await claimed(requests)
    clock.tick(1)
    async with asyncio.timeout(5):
        while store.rows[KEY].until <= clock.now:  # noqa: ASYNC110 - a renewal announces nothing
            await asyncio.sleep(0.005)
    await requests.stop()

    await requests.release(claim)
