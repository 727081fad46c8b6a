"""The limiter in memory and on PostgreSQL, by a clock that the tests set."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest

from runtime.domain.services.quotas import LEASE_S, Asked, RateLimiter, Window
from runtime.domain.value_objects.ids import ProjectId
from runtime.domain.value_objects.limits import LimitScope, Rates, Subject
from runtime.infrastructure.quotas.memory import MemoryRateLimiter
from runtime.infrastructure.quotas.postgresql import PostgresRateLimiter
from tests.contracts.conftest import Connect

ACME = ProjectId("acme")
KEY = Subject(ACME, LimitScope.KEY, "key_1")
AGENT = Subject(ACME, LimitScope.AGENT, "line_1")
holders = (f"holder_{number}" for number in count())


@dataclass
class Bench:
    make: Callable[[Callable[[], float]], RateLimiter]
    at: float = 1_000.5
    limiter: RateLimiter = field(init=False)

    def __post_init__(self) -> None:
        self.limiter = self.make(lambda: self.at)

    async def windows(self, *rates: tuple[Subject, Rates], tokens: int = 0) -> Sequence[Window]:
        return await self.limiter.admit(Asked(next(holders), rates, tokens, 1))

    async def fits(self, *rates: tuple[Subject, Rates], tokens: int = 0) -> bool:
        return all(window.fits for window in await self.windows(*rates, tokens=tokens))


@pytest.fixture(params=["memory", "postgres"])
def bench(request: pytest.FixtureRequest, connect: Connect) -> Bench:
    if request.param == "memory":
        return Bench(MemoryRateLimiter)
    url = str(request.getfixturevalue("clean_postgres_url"))
    return Bench(lambda clock: PostgresRateLimiter(connect(url), clock))


THREE = (KEY, Rates(requests_per_minute=3))


async def test_so_many_and_no_more_within_any_minute(bench: Bench) -> None:
    assert [await bench.fits(THREE) for _ in range(4)] == [True, True, True, False]
    bench.at += 59
    assert not await bench.fits(THREE)
    bench.at += 2
    assert [await bench.fits(THREE) for _ in range(4)] == [True, True, True, False]


async def test_room_comes_back_as_it_was_taken(bench: Bench) -> None:
    assert await bench.fits(THREE)
    bench.at += 30
    assert await bench.fits(THREE)
    assert await bench.fits(THREE)
    bench.at += 31

    assert [await bench.fits(THREE) for _ in range(2)] == [True, False]


async def test_a_window_tells_what_was_used_and_when_it_is_free(bench: Bench) -> None:
    tokens = (KEY, Rates(tokens_per_minute=100))
    await bench.windows(tokens, tokens=60)
    bench.at += 10
    await bench.windows(tokens, tokens=30)
    (window,) = await bench.windows(tokens, tokens=20)

    assert not window.fits
    assert (window.requests, window.tokens) == (2, 90)
    assert window.wait_s(2, surplus=10) == pytest.approx(1061 - bench.at)
    assert window.wait_s(2, surplus=61) == pytest.approx(1071 - bench.at)
    assert window.reset_s(2) == pytest.approx(1071 - bench.at)


async def test_what_one_limit_refuses_eats_nothing_of_another(bench: Bench) -> None:
    one, ten = (AGENT, Rates(requests_per_minute=1)), (KEY, Rates(requests_per_minute=10))
    assert await bench.fits(ten, one)
    for _ in range(20):
        key, agent = await bench.windows(ten, one)
        assert (key.fits, agent.fits) == (True, False)

    assert (await bench.windows(ten))[0].requests == 1


async def test_places_are_free_again_when_they_are_given_back(bench: Bench) -> None:
    rates = (KEY, Rates(concurrent_runs=2))
    both = Asked("both", [rates], 0, 2)
    assert (await bench.limiter.admit(both))[0].fits
    assert not await bench.fits(rates)
    await bench.limiter.settle(both, 0, 0, 1)
    assert await bench.fits(rates)
    assert not await bench.fits(rates)
    await bench.limiter.settle(both, 0, 0, 1)

    assert await bench.fits(rates)


async def test_tokens_that_were_not_used_are_given_back(bench: Bench) -> None:
    rates = (KEY, Rates(tokens_per_minute=100))
    asked = Asked("one", [rates], 90, 1)
    await bench.limiter.admit(asked)
    bench.at += 20
    await bench.limiter.settle(asked, 1_000, -60, 1)

    assert (await bench.windows(rates))[0].tokens == 30
    bench.at = 1_061.0
    assert (await bench.windows(rates))[0].tokens == 0


async def test_tokens_beyond_the_estimate_count_from_when_they_are_known(bench: Bench) -> None:
    rates = (KEY, Rates(tokens_per_minute=100))
    asked = Asked("one", [rates], 10, 1)
    await bench.limiter.admit(asked)
    bench.at += 50
    await bench.limiter.settle(asked, 1_000, 80, 1)

    bench.at += 20
    assert (await bench.windows(rates))[0].tokens == 80
    assert not await bench.fits(rates, tokens=21)


async def test_a_hundred_at_once_through_two_replicas_are_counted_exactly(bench: Bench) -> None:
    rates = (KEY, Rates(requests_per_minute=100, concurrent_runs=120))
    shared = not isinstance(bench.limiter, MemoryRateLimiter)
    replicas = [bench.limiter, bench.make(lambda: bench.at) if shared else bench.limiter]
    found = await asyncio.gather(
        *(replicas[number % 2].admit(Asked(next(holders), [rates], 0, 1)) for number in range(200))
    )

    assert sum(window.fits for (window,) in found) == 100


async def test_two_subjects_in_either_order_never_wait_for_each_other(bench: Bench) -> None:
    key, agent = (KEY, Rates(requests_per_minute=50)), (AGENT, Rates(requests_per_minute=60))
    found = await asyncio.gather(
        *(bench.windows(*((key, agent) if n % 2 else (agent, key))) for n in range(100))
    )

    assert sum(all(window.fits for window in windows) for windows in found) == 50


async def test_the_server_s_clock_counts_where_none_is_given(
    clean_postgres_url: str, connect: Connect
) -> None:
    limiter = PostgresRateLimiter(connect(clean_postgres_url))
    (window,) = await limiter.admit(Asked("one", [THREE], 0, 1))

    assert window.at > 1_700_000_000
    assert (await limiter.admit(Asked("two", [THREE], 0, 1)))[0].requests == 1


async def test_the_places_of_a_killed_process_are_free_after_their_lease(
    clean_postgres_url: str, connect: Connect
) -> None:
    at = 1_000.0
    killed, alive = (PostgresRateLimiter(connect(clean_postgres_url), lambda: at) for _ in range(2))
    rates = (KEY, Rates(concurrent_runs=2))
    for limiter in (killed, alive):
        assert (await limiter.admit(Asked(next(holders), [rates], 0, 1)))[0].fits
    at += LEASE_S - 1
    await alive.renew()
    assert not (await alive.admit(Asked(next(holders), [rates], 0, 1)))[0].fits
    at += 2

    assert (await alive.admit(Asked(next(holders), [rates], 0, 1)))[0].fits
    assert not (await alive.admit(Asked(next(holders), [rates], 0, 1)))[0].fits
