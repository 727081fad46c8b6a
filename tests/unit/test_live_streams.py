"""Answers that go on without their reader, on runs that never were."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from runtime.application.services import live_streams
from runtime.application.services.generation.generation import Generation
from runtime.application.services.generation.sources import Batch, Sourced
from runtime.application.services.live_streams import LiveStreams
from runtime.domain.errors import EventsGone, RequestIdInUse, Saturated, StreamNotFound
from runtime.domain.events.runs import TextDelta
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import ProjectId, UserId

ANN = Principal(UserId("ann"))
BOB = Principal(UserId("bob"))
STRANGER = Principal(UserId("ann"), ProjectId("elsewhere"))


class Scripted(Generation):
    """Gives out what the test puts in; None ends it."""

    def __init__(self) -> None:
        self.sources = ()
        self.script: asyncio.Queue[Sequence[str] | None] = asyncio.Queue()
        self.taken = 0
        self.closed = asyncio.Event()

    def say(self, *batches: Sequence[str]) -> None:
        for batch in batches:
            self.script.put_nowait(batch)

    async def batches(self) -> AsyncGenerator[Batch]:
        while (batch := await self.script.get()) is not None:
            self.taken += len(batch)
            yield [Sourced(0, TextDelta(text)) for text in batch]

    def cancel(self) -> None:
        self.script.put_nowait(None)

    async def aclose(self) -> None:
        self.closed.set()


class Plain:
    cancelled = False

    def encode(self, number: int, sourced: Sourced) -> bytes | None:
        event = sourced.event
        assert isinstance(event, TextDelta)
        return f"{number}:{event.text}".encode() if event.text else None

    def end(self, last: int) -> bytes:
        return f"end:{last}".encode()


def streams(*, most: int = 10, keep_s: float = 60, max_bytes: int = 1_000) -> LiveStreams:
    return LiveStreams(most, keep_s, max_bytes)


async def read(kept: LiveStreams, after: int, until: str, owner: Principal = ANN) -> list[str]:
    found: list[str] = []
    async with aclosing(kept.follow(owner, "r", after)) as events:
        async for some in events:
            found += [each.decode() for each in some]
            if found[-1] == until:
                return found
    return found


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_reader_gets_what_comes_after_a_number_to_the_end() -> None:
    kept, generation = streams(), Scripted()
    kept.open(ANN, "r", generation, Plain())
    generation.say(["a", "b"], ["c", "", "d"])
    generation.script.put_nowait(None)

    assert await read(kept, 0, "") == ["1:a", "2:b", "3:c", "4:d", "end:4"]
    assert await read(kept, 2, "") == ["3:c", "4:d", "end:4"]
    assert await read(kept, 4, "") == ["end:4"]
    await kept.aclose()


async def test_it_goes_on_while_nobody_reads_and_waits_when_there_is_no_room() -> None:
    kept, generation = streams(max_bytes=100), Scripted()
    kept.open(ANN, "r", generation, Plain())
    generation.say(*(["x" * 20] for _ in range(50)))
    await settled()
    assert 4 <= generation.taken < 8

    generation.script.put_nowait(None)
    assert len(await read(kept, 0, "")) == 51
    await kept.aclose()


async def test_what_was_read_makes_room_and_can_be_asked_for_as_long_as_it_is_there() -> None:
    kept, generation = streams(max_bytes=100), Scripted()
    kept.open(ANN, "r", generation, Plain())
    generation.say(*(["x" * 20] for _ in range(50)))
    await read(kept, 0, f"30:{'x' * 20}")
    await settled()

    with pytest.raises(EventsGone) as gone:
        await read(kept, 2, "")
    first = gone.value.details["first"]
    assert isinstance(first, int)
    assert 25 <= first <= 30
    assert (await read(kept, first, f"40:{'x' * 20}"))[0].startswith(f"{first + 1}:")
    await kept.aclose()


async def test_the_number_of_events_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_streams, "MOST_EVENTS", 5)
    kept, generation = streams(), Scripted()
    kept.open(ANN, "r", generation, Plain())
    generation.say(*(["x"] for _ in range(50)))
    await settled()

    assert generation.taken == 6
    await kept.aclose()


async def test_closing_ends_a_run_that_waits_for_room() -> None:
    kept, generation = streams(max_bytes=10), Scripted()
    kept.open(ANN, "r", generation, Plain())
    generation.say(*(["x" * 20] for _ in range(5)))
    await settled()
    async with asyncio.timeout(1):
        await kept.aclose()
    assert generation.closed.is_set()


async def test_nobody_else_finds_it() -> None:
    kept, generation = streams(), Scripted()
    kept.open(ANN, "r", generation, Plain())

    for other in (BOB, STRANGER):
        with pytest.raises(StreamNotFound):
            kept.get(other, "r")
        kept.check(other, "r")
    with pytest.raises(RequestIdInUse):
        kept.check(ANN, "r")
    await kept.aclose()


async def test_it_ends_when_nobody_comes_back_in_time() -> None:
    kept, generation = streams(keep_s=0.05), Scripted()
    kept.open(ANN, "r", generation, Plain())
    generation.say(["a"])
    await read(kept, 0, "1:a")
    async with asyncio.timeout(1):
        await generation.closed.wait()
    assert len(kept) == 0


async def test_it_stays_as_long_as_somebody_reads() -> None:
    kept, generation = streams(keep_s=0.05), Scripted()
    kept.open(ANN, "r", generation, Plain())
    reading = asyncio.create_task(read(kept, 0, "1:a"))
    await asyncio.sleep(0.15)
    generation.say(["a"])

    assert await reading == ["1:a"]
    await kept.aclose()


async def test_a_later_reader_ends_an_earlier_one() -> None:
    kept, generation = streams(), Scripted()
    kept.open(ANN, "r", generation, Plain())
    generation.say(["a"])
    first = asyncio.create_task(read(kept, 0, ""))
    await settled()
    second = asyncio.create_task(read(kept, 0, ""))
    await settled()
    generation.say(["b"])
    generation.script.put_nowait(None)

    assert await first == ["1:a"]
    assert await second == ["1:a", "2:b", "end:2"]
    await kept.aclose()


async def test_there_are_so_many_and_ended_ones_make_place() -> None:
    kept = streams(most=1)
    generation = Scripted()
    kept.open(ANN, "r", generation, Plain())
    with pytest.raises(Saturated):
        kept.check(BOB, "r")
    generation.script.put_nowait(None)
    await settled()
    kept.open(BOB, "r", Scripted(), Plain())

    with pytest.raises(StreamNotFound):
        kept.get(ANN, "r")
    await kept.aclose()


async def test_one_caller_takes_no_more_than_a_quarter_of_the_places() -> None:
    kept = streams(most=8)
    first = Scripted()
    kept.open(ANN, "one", first, Plain())
    kept.open(ANN, "two", Scripted(), Plain())
    with pytest.raises(Saturated, match="2 places for your"):
        kept.check(ANN, "three")
    kept.open(BOB, "one", Scripted(), Plain())

    first.script.put_nowait(None)
    await settled()
    kept.open(ANN, "three", Scripted(), Plain())
    with pytest.raises(StreamNotFound):
        kept.get(ANN, "one")
    assert kept.get(BOB, "one")
    await kept.aclose()
