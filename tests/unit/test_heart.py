"""When a process may say of another one that it is dead."""

from collections.abc import AsyncIterator

import pytest

from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.durable import WorkerBeats
from runtime.domain.services.liveness import KNOWN_TO_BE_GONE_S
from runtime.domain.value_objects.ids import WorkerId
from runtime.infrastructure.liveness.heart import Heart
from tests.contracts.dispatching import until

ME = WorkerId("worker_me")
LEASE_S = 3.0


class Beats(WorkerBeats):
    def __init__(self) -> None:
        self.beats: list[WorkerId] = []
        self.looks = 0
        self.left: list[WorkerId] = []
        self.away = False

    def beat(self, worker: WorkerId) -> None:
        self._reach()
        self.beats.append(worker)

    def look(self) -> None:
        self._reach()
        self.looks += 1

    def leave(self, worker: WorkerId) -> None:
        self._reach()
        self.left.append(worker)

    def close(self) -> None: ...

    def _reach(self) -> None:
        if self.away:
            raise OSError("no route to the database")


class Clock:
    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def beats() -> Beats:
    return Beats()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def heart(beats: Beats, clock: Clock) -> AsyncIterator[Heart]:
    heart = Heart(beats, ME, every_s=1.0, lease_s=LEASE_S, now=clock)
    await heart.start()
    yield heart
    await heart.stop()


async def tick(heart: Heart, beats: Beats, clock: Clock, seconds: float = 1.0) -> None:
    """The clock goes on, and the heart after it."""
    clock.at += seconds
    heart.hold()
    await heart.felt()
    heart.release()


async def test_it_is_felt_once_it_has_beaten(heart: Heart, beats: Beats) -> None:
    assert beats.beats == []

    heart.hold()
    await heart.felt()
    assert beats.beats == [ME]


async def test_a_fresh_beat_is_not_waited_for_again(heart: Heart, beats: Beats) -> None:
    heart.hold()
    await heart.felt()
    beats.away = True

    await heart.felt()


async def test_who_was_there_for_longer_than_the_lease_may_judge(
    heart: Heart, beats: Beats, clock: Clock
) -> None:
    assert heart.silence_s == KNOWN_TO_BE_GONE_S
    for _ in range(3):
        await tick(heart, beats, clock, 1.6)

    assert heart.beating_for_s > LEASE_S
    assert heart.silence_s == LEASE_S


async def test_who_was_stopped_meanwhile_may_not(heart: Heart, beats: Beats, clock: Clock) -> None:
    for _ in range(3):
        await tick(heart, beats, clock, 1.6)
    clock.at += 60
    assert heart.beating_for_s == 0
    assert heart.silence_s == KNOWN_TO_BE_GONE_S

    await tick(heart, beats, clock)
    assert heart.silence_s == KNOWN_TO_BE_GONE_S


async def test_an_outage_begins_the_count_again(heart: Heart, beats: Beats, clock: Clock) -> None:
    for _ in range(3):
        await tick(heart, beats, clock, 1.6)
    beats.away = True
    with pytest.raises(DatabaseUnavailable):
        await tick(heart, beats, clock, 1.6)
    beats.away = False

    await tick(heart, beats, clock)
    assert heart.beating_for_s == 0


async def test_who_has_beaten_leaves_at_the_end(beats: Beats, clock: Clock) -> None:
    heart = Heart(beats, ME, now=clock)
    await heart.start()
    await heart.stop()
    assert beats.left == []

    heart = Heart(beats, ME, now=clock)
    await heart.start()
    heart.hold()
    await heart.felt()
    await heart.stop()
    assert beats.left == [ME]


async def test_it_looks_at_the_others_from_the_start(heart: Heart, beats: Beats) -> None:
    await until(lambda: beats.looks == 1)
