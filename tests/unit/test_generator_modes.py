"""What each mode does to events, on sources that do as they are told."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.application.services.generation.builtin import generator_modes
from runtime.application.services.generation.config import ModeConfig
from runtime.application.services.generation.feed import Feed
from runtime.application.services.generation.generation import Generation
from runtime.application.services.generation.modes import GeneratorModes, Single
from runtime.application.services.generation.sources import Batch, Sourced, Stream
from runtime.domain.errors import (
    Draining,
    InvalidValue,
    NoSourceAnswered,
    UpstreamFailed,
    UpstreamTimeout,
)
from runtime.domain.events.runs import (
    ReasoningDelta,
    RunEvent,
    RunFailed,
    StepFinished,
    TextDelta,
)
from tests.fakes_generation import (
    DONE,
    ScriptedSource,
    events_of,
    fails,
    read,
    says,
    single,
    stream_of,
    texts_of,
)

STEP = StepFinished("1", "answer", "success", 1)
BROKEN = UpstreamFailed("It broke.")
SLOW = UpstreamTimeout("It said nothing.")

texts = st.lists(st.text(alphabet="ab .!?\n。\uff01”好\u3000", max_size=12), max_size=12)
events: st.SearchStrategy[RunEvent] = st.one_of(
    st.text(max_size=8).map(TextDelta), st.just(STEP), st.text(max_size=3).map(ReasoningDelta)
)
pieces = st.lists(st.lists(events, min_size=1, max_size=4), max_size=8)


def generation(mode: str, *sources: ScriptedSource, **config: object) -> Generation:
    arranged = generator_modes().arrange(mode, config)
    for source in sources:
        source.through = arranged.each
    return Generation(sources, arranged.mode)


def folded(events: Sequence[RunEvent]) -> list[object]:
    """The events with what is next to each other of a text joined."""
    out: list[object] = []
    for event in events:
        if not isinstance(event, TextDelta):
            out.append(event)
        elif out and isinstance(out[-1], str):
            out[-1] += event.text
        elif event.text:
            out.append(event.text)
    return out


MODES = [
    ("standard", {}),
    ("buffered", {"buffer_size": 5}),
    ("buffered", {"flush_interval": 0.001}),
    ("chunked", {}),
    ("chunked", {"unit": "sentence"}),
    ("chunked", {"unit": "characters", "size": 3}),
]


@pytest.mark.parametrize(("mode", "config"), MODES)
@given(given_batches=pieces)
async def test_no_mode_loses_or_moves_anything(
    mode: str, config: dict[str, object], given_batches: list[list[RunEvent]]
) -> None:
    batches: list[list[RunEvent]] = [*given_batches, [DONE]]
    out = await read(single(mode, config).stream(stream_of(*batches)))

    assert folded(events_of(out)) == folded([event for batch in batches for event in batch])
    assert all(out)
    assert out[-1][-1].event is DONE


@pytest.mark.parametrize("config", [{"unit": "word"}, {"unit": "sentence"}, {"unit": "characters"}])
@given(cut=texts)
async def test_chunks_are_the_same_however_the_text_was_cut(
    config: dict[str, object], cut: list[str]
) -> None:
    mode = single("chunked", config)
    whole = texts_of(await read(mode.stream(stream_of([TextDelta("".join(cut))], [DONE]))))
    apart = texts_of(await read(mode.stream(stream_of(*([TextDelta(t)] for t in cut), [DONE]))))

    assert apart == whole or "".join(cut) == ""


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("word", "Hello, big world", ["Hello,", " big", " world"]),
        ("word", "你好world再见", ["你", "好", "world", "再", "见"]),
        ("sentence", 'One. "Two!" 3.14 is pi? Yes', ["One.", ' "Two!"', " 3.14 is pi?", " Yes"]),
        ("sentence", "你好\uff01“再见。”他说。走", ["你好\uff01", "“再见。”", "他说。", "走"]),
        ("sentence", "A title\n\nText.\nMore", ["A title", "\n\nText.", "\nMore"]),
        ("sentence", "... and so on. Then", ["... and so on.", " Then"]),
    ],
)
async def test_text_is_cut_into_words_and_sentences(
    unit: str, text: str, expected: list[str]
) -> None:
    for pieces in ([text], list(text)):
        batches = [[TextDelta(piece)] for piece in pieces]
        out = await read(single("chunked", {"unit": unit}).stream(stream_of(*batches, [DONE])))
        assert texts_of(out) == expected


async def test_a_word_without_an_end_is_not_held_for_good() -> None:
    batches = [[TextDelta("x" * 500)] for _ in range(10)]
    out = texts_of(await read(single("chunked").stream(stream_of(*batches, [DONE]))))

    assert len(out) == 2
    assert len("".join(out)) == 5_000


@pytest.mark.parametrize("text", ["." * 200_000, " " * 200_000, "。" * 200_000, "a" * 200_000])
@pytest.mark.parametrize("unit", ["word", "sentence"])
async def test_no_text_takes_long_to_cut(unit: str, text: str) -> None:
    async with asyncio.timeout(2):
        out = await read(
            single("chunked", {"unit": unit}).stream(stream_of([TextDelta(text)], [DONE]))
        )

    assert "".join(texts_of(out)) == text


async def test_a_buffer_goes_out_when_it_is_full() -> None:
    mode = single("buffered", {"buffer_size": 6, "flush_interval": 60})
    batches = [[TextDelta(text)] for text in ("ab", "cd", "ef", "好好", "g")]
    out = await read(mode.stream(stream_of(*batches, [DONE])))

    assert texts_of(out) == ["abcdef", "好好", "g"]


async def test_a_buffer_goes_out_in_time_though_nothing_more_comes() -> None:
    go_on = asyncio.Event()
    source = ScriptedSource(0, TextDelta("Hel"), TextDelta("lo"), go_on, DONE)
    stream = single("buffered", {"flush_interval": 0.02}).stream(source.batches())

    async with asyncio.timeout(5):
        early = [await anext(stream), await anext(stream)]
    go_on.set()
    rest = await read(stream)

    assert texts_of(early) == ["Hello"]
    assert events_of(rest) == [DONE]


async def test_a_buffer_does_not_keep_what_is_not_text_waiting() -> None:
    mode = single("buffered", {"flush_interval": 60})
    never = asyncio.Event()
    source = ScriptedSource(0, [TextDelta("Hel"), TextDelta("lo")], STEP, never, started=False)
    stream = mode.stream(source.batches())

    async with asyncio.timeout(5):
        assert events_of([await anext(stream)]) == [TextDelta("Hello"), STEP]
    await stream.aclose()
    assert source.closed


async def test_who_reads_slowly_holds_the_sources_back() -> None:
    sources = [ScriptedSource(index, *says(*"abcdefgh")) for index in range(3)]
    stream = generator_modes().arrange("interleaved", {}).mode.joined(sources)

    await anext(stream)
    for _ in range(50):
        await asyncio.sleep(0)

    # One that the reader has, one that lies there for it, and one in hand.
    assert max(source.given for source in sources) <= 3
    await stream.aclose()
    assert all(source.closed for source in sources)


async def test_what_came_before_a_stream_broke_is_read_before_it_raises() -> None:
    async def breaks() -> Stream:
        yield [Sourced(0, TextDelta("one"))]
        yield [Sourced(0, TextDelta("two"))]
        raise RuntimeError("It broke.")

    async def goes_on() -> Stream:
        await asyncio.Event().wait()
        yield []

    seen: list[Batch] = []
    async with aclosing(Feed([breaks(), goes_on()])) as feed:
        while len(seen) < 2:
            seen += [batch for _, batch in await feed.take(5)]
        with pytest.raises(RuntimeError, match="It broke"):
            await feed.take(5)

        assert not feed.ended

    assert texts_of(seen) == ["one", "two"]


async def test_interleaved_answers_come_as_they_are_said() -> None:
    waits = asyncio.Event()
    slow = ScriptedSource(0, TextDelta("slow"), waits, TextDelta("er"), DONE)
    quick = ScriptedSource(1, *says("quick", "er"))
    stream = generation("interleaved", slow, quick).batches()

    seen: list[Batch] = []
    async for batch in stream:
        seen.append(batch)
        if batch[-1].source == 1 and batch[-1].event is DONE:
            waits.set()

    assert texts_of(seen, 0) == ["slow", "er"]
    assert texts_of(seen, 1) == ["quick", "er"]
    assert seen[-1][-1] == Sourced(0, DONE)


@given(first=texts, second=texts)
async def test_interleaving_keeps_the_order_of_each(first: list[str], second: list[str]) -> None:
    made = generation(
        "interleaved", *(ScriptedSource(i, *says(*t)) for i, t in enumerate((first, second)))
    )
    out = await read(made.batches())

    assert texts_of(out, 0) == first
    assert texts_of(out, 1) == second


async def test_one_source_that_fails_leaves_the_others_alone() -> None:
    made = generation(
        "interleaved", ScriptedSource(0, *fails(BROKEN)), ScriptedSource(1, *says("well"))
    )
    await made.ready(5)
    out = await read(made.batches())

    assert events_of(out, 0)[-1] == RunFailed(BROKEN)
    assert texts_of(out, 1) == ["well"]
    assert made.failure is None


@pytest.mark.parametrize(
    ("mode", "config"),
    [("interleaved", {}), ("priority", {}), ("priority", {"strategy": "ranked"})],
)
async def test_where_all_fail_the_whole_does(mode: str, config: dict[str, object]) -> None:
    alike = generation(
        mode, ScriptedSource(0, *fails(BROKEN)), ScriptedSource(1, *fails(BROKEN)), **config
    )
    with pytest.raises(UpstreamFailed, match="It broke"):
        await alike.ready(5)

    apart = generation(
        mode, ScriptedSource(0, *fails(BROKEN)), ScriptedSource(1, *fails(SLOW)), **config
    )
    with pytest.raises(NoSourceAnswered) as error:
        await apart.ready(5)
    assert "source0 (upstream_error), source1 (upstream_timeout)" in str(error.value)


async def test_every_source_can_go_through_another_mode_first() -> None:
    each = {"mode": "buffered", "buffer_size": 4, "flush_interval": 60}
    sources = [ScriptedSource(index, *says("a", "b", "c", "d", "e")) for index in range(2)]
    out = await read(generation("interleaved", *sources, each=each).batches())

    assert texts_of(out, 0) == texts_of(out, 1) == ["abcd", "e"]


async def test_in_a_race_the_first_to_speak_wins_and_the_others_are_cancelled() -> None:
    never, later = asyncio.Event(), asyncio.Event()
    slow = ScriptedSource(0, never, *says("slow"))
    quick = ScriptedSource(1, STEP, TextDelta("qu"), later, TextDelta("ick"), DONE)
    made = generation("priority", slow, quick)
    await made.ready(5)

    assert slow.was_cancelled.is_set()
    later.set()
    out = await read(made.batches())
    assert texts_of(out) == ["qu", "ick"]
    assert events_of(out, 0) == []
    assert STEP in events_of(out, 1)


async def test_a_race_goes_on_without_those_that_fail() -> None:
    go = asyncio.Event()
    made = generation(
        "priority", ScriptedSource(0, *fails(BROKEN)), ScriptedSource(1, go, *says("well"))
    )
    getting_ready = asyncio.create_task(made.ready(5))
    go.set()
    await getting_ready
    out = await read(made.batches())

    assert texts_of(out) == ["well"]
    assert made.failure is None


async def test_the_next_in_rank_takes_over_from_one_that_fails_without_a_word() -> None:
    first = ScriptedSource(0, STEP, *fails(BROKEN))
    second, third = ScriptedSource(1, *says("well")), ScriptedSource(2, *says("never"))
    out = await read(generation("priority", first, second, third, strategy="ranked").batches())

    assert texts_of(out) == ["well"]
    assert events_of(out, 0) == []
    assert not third.read


async def test_nobody_takes_over_from_one_that_has_spoken() -> None:
    first, second = ScriptedSource(0, *fails(BROKEN, "Hel")), ScriptedSource(1, *says("well"))
    made = generation("priority", first, second, strategy="ranked")
    out = await read(made.batches())

    assert texts_of(out) == ["Hel"]
    assert made.failure is BROKEN
    assert not second.read


@pytest.mark.parametrize("mode", ["interleaved", "priority"])
@pytest.mark.parametrize("strategy", ["race", "ranked"])
async def test_who_leaves_ends_all_and_nobody_takes_over(mode: str, strategy: str) -> None:
    config = {"strategy": strategy} if mode == "priority" else {}
    sources = [ScriptedSource(index, asyncio.Event(), *says("no")) for index in range(3)]
    made = generation(mode, *sources, **config)
    reading = asyncio.create_task(read(made.batches()))
    await asyncio.sleep(0)
    made.cancel()

    async with asyncio.timeout(5):
        out = await reading
    assert texts_of(out) == []
    assert isinstance(made.failure, Draining)
    await made.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("mode", ["standard", "buffered", "chunked", "interleaved", "priority"])
async def test_closing_leaves_no_task_behind(mode: str) -> None:
    sources = [ScriptedSource(0, TextDelta("Hi "), asyncio.Event(), DONE)]
    made = generation(mode, *sources)
    await made.ready(5)
    stream = made.batches()
    await anext(stream)
    await made.aclose()

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert sources[0].closed


async def test_it_can_be_closed_while_somebody_reads() -> None:
    class Slow(ScriptedSource):
        def cancel(self) -> None:
            """It takes its time."""

    go_on = asyncio.Event()
    made = generation("standard", Slow(0, go_on, DONE))
    reading = asyncio.create_task(read(made.batches()))
    for _ in range(3):
        await asyncio.sleep(0)
    await made.aclose()
    go_on.set()

    async with asyncio.timeout(5):
        assert events_of(await reading)[-1] is DONE


async def test_getting_ready_does_not_wait_for_ever() -> None:
    go_on = asyncio.Event()
    made = generation("buffered", ScriptedSource(0, go_on, *says("late")))
    await made.ready(0.01)
    go_on.set()

    assert texts_of(await read(made.batches())) == ["late"]


@pytest.mark.parametrize(
    ("mode", "config", "param"),
    [
        ("standard", {"x": 1}, "generator_config.x"),
        ("buffered", {"buffer_size": 0}, "generator_config.buffer_size"),
        ("buffered", {"buffer_size": True}, "generator_config.buffer_size"),
        ("buffered", {"buffer_size": "1"}, "generator_config.buffer_size"),
        ("buffered", {"flush_interval": -1}, "generator_config.flush_interval"),
        ("buffered", {"flush_interval": "1"}, "generator_config.flush_interval"),
        ("chunked", {"unit": "paragraph"}, "generator_config.unit"),
        ("chunked", {"unit": ["word"]}, "generator_config.unit"),
        ("chunked", {"size": 1.5}, "generator_config.size"),
        ("priority", {"strategy": "best"}, "generator_config.strategy"),
        ("interleaved", {"providers": "demo"}, "generator_config.providers"),
        ("interleaved", {"providers": [1]}, "generator_config.providers"),
        ("interleaved", {"each": "buffered"}, "generator_config.each"),
        ("interleaved", {"each": {}}, "generator_config.each.mode"),
        ("interleaved", {"each": {"mode": "x"}}, "generator_config.each.mode"),
        ("interleaved", {"each": {"mode": "priority"}}, "generator_config.each.mode"),
        ("interleaved", {"each": {"mode": "chunked", "y": 1}}, "generator_config.each.y"),
        ("interleaves", {}, "generator_mode"),
    ],
)
def test_a_wrong_configuration_names_its_key(
    mode: str, config: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidValue) as error:
        generator_modes().arrange(mode, config)
    assert error.value.param == param


def test_an_unknown_mode_is_told_which_there_are() -> None:
    with pytest.raises(InvalidValue, match="buffered, chunked, interleaved, priority, standard"):
        generator_modes().get("bufferd")


async def test_a_mode_of_ones_own_is_registered_by_its_name() -> None:
    class Shouting(Single):
        def __init__(self, config: ModeConfig) -> None:
            self._mark = config.choice("mark", ("!", "?"))

        async def stream(self, events: Stream) -> Stream:
            async for batch in events:
                yield [self._louder(each) for each in batch]

        def _louder(self, each: Sourced) -> Sourced:
            if not isinstance(each.event, TextDelta):
                return each
            return Sourced(each.source, TextDelta(each.event.text.upper() + self._mark))

    modes = GeneratorModes()
    modes.register("shouting", Shouting)
    arranged = modes.arrange("shouting", {"mark": "?"})
    made = Generation([ScriptedSource(0, *says("really"))], arranged.mode)

    assert texts_of(await read(made.batches())) == ["REALLY?"]
