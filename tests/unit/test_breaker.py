from hypothesis import given
from hypothesis import strategies as st

from runtime.domain.value_objects.providers import BreakerState
from runtime.infrastructure.providers.breaker import PROBE_WAIT_S, CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def state(breaker: CircuitBreaker) -> BreakerState:
    return breaker.state


def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(5, 30, clock)
    for _ in range(5):
        assert breaker.enter() is False
        breaker.leave("failure", probe=False)
    return breaker


def test_it_opens_after_five_failures_in_a_row() -> None:
    breaker = CircuitBreaker(5, 30, Clock())
    for _ in range(4):
        breaker.leave("failure", probe=False)
    assert state(breaker) == "closed"
    breaker.leave("failure", probe=False)
    assert state(breaker) == "open"
    assert breaker.enter() is None


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = CircuitBreaker(2, 30, Clock())
    for outcome in ("failure", "success", "failure"):
        breaker.leave(outcome, probe=False)
    assert state(breaker) == "closed"


def test_a_few_that_fail_in_a_row_among_many_that_succeed_do_not_open_it() -> None:
    breaker = CircuitBreaker(5, 30, Clock())
    for outcome in [*["success"] * 20, *["failure"] * 9]:
        breaker.leave(outcome, probe=False)  # type: ignore[arg-type] # a list of literals is of str
    assert state(breaker) == "closed"
    breaker.leave("failure", probe=False)
    assert state(breaker) == "open"


def test_what_says_nothing_of_its_health_does_not_count() -> None:
    breaker = CircuitBreaker(2, 30, Clock())
    breaker.leave("failure", probe=False)
    breaker.leave("unknown", probe=False)
    assert state(breaker) == "closed"
    breaker.leave("failure", probe=False)
    assert state(breaker) == "open"


def test_callers_are_told_how_long_it_stays_open() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 12
    assert breaker.retry_after_s == 18


def test_after_the_recovery_time_one_call_of_many_is_the_probe() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 30
    assert state(breaker) == "half_open"
    assert [breaker.enter() for _ in range(10)] == [True, *[None] * 9]
    assert breaker.retry_after_s == PROBE_WAIT_S


def test_a_probe_that_succeeds_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 30
    breaker.leave("success", probe=bool(breaker.enter()))
    assert state(breaker) == "closed"
    assert breaker.enter() is False


def test_a_probe_that_fails_opens_it_for_as_long_again() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 30
    breaker.leave("failure", probe=bool(breaker.enter()))
    assert state(breaker) == "open"
    assert breaker.retry_after_s == 30


def test_a_probe_that_is_cancelled_makes_room_for_another() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 30
    assert breaker.enter()
    breaker.leave("unknown", probe=True)
    assert breaker.enter() is True


def test_calls_that_began_before_it_opened_no_longer_count() -> None:
    clock = Clock()
    breaker = opened(clock)
    breaker.leave("success", probe=False)
    assert state(breaker) == "open"
    clock.now += 20
    breaker.leave("failure", probe=False)
    assert breaker.retry_after_s == 10


@given(st.lists(st.tuples(st.sampled_from(["success", "failure", "unknown"]), st.integers(0, 40))))
def test_it_never_has_two_probes_at_once(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(2, 30, clock)
    probes = 0
    for outcome, wait in steps:
        clock.now += wait
        entered = breaker.enter()
        if entered:
            probes += 1
            assert probes == 1
            assert breaker.enter() is None
        if entered is not None:
            breaker.leave(outcome, probe=entered)  # type: ignore[arg-type] # hypothesis knows str
        if entered:
            probes -= 1
