"""What a further attempt of a run emits, less what earlier ones said."""

from collections.abc import Sequence
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from runtime.application.services.durable.replay import Replay
from runtime.domain.events.runs import (
    OutputDiscarded,
    ReasoningDelta,
    RunCompleted,
    RunEvent,
    RunStarted,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from runtime.domain.services.durability import CallLog, Durability
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.run_logs import effective

BEGUN = RunStarted(RunId("run_1"))
CALLED = ToolCalled("call_1", "pay", "{}")
PAID = ToolReturned("call_1", "pay", "success", "ok", 1.0)
USED = UsageReported(Usage(1, 1), "model")


def started(id: str) -> StepStarted:
    return StepStarted(id, "step")


def finished(id: str) -> StepFinished:
    return StepFinished(id, "step", "success", 1.0)


def log(*events: RunEvent) -> list[RunEvent]:
    return list(events)


async def emitted(
    before: Sequence[RunEvent], now: Sequence[RunEvent], *, restarted: bool = False
) -> list[RunEvent]:
    out: list[RunEvent] = []

    async def emit(event: RunEvent) -> None:
        out.append(event)

    durability = Durability(attempt=2, calls=cast(CallLog, None), restarted=restarted)
    replay = Replay(before, durability, emit)
    for event in now:
        await replay.emit(event)
    await replay.close()
    return out


def said(before: Sequence[RunEvent], after: Sequence[RunEvent]) -> str:
    whole = effective([*before, *after])
    return "".join(event.text for event in whole if isinstance(event, TextDelta))


async def test_what_a_model_says_again_is_not_said_twice() -> None:
    before = log(BEGUN, started("a"), TextDelta("Hello, wo"))
    again = log(started("a"), TextDelta("Hel"), TextDelta("lo, world"), finished("a"))

    assert await emitted(before, again) == [TextDelta("rld"), finished("a")]


async def test_where_it_answers_otherwise_what_was_said_is_discarded() -> None:
    before = log(
        BEGUN, started("a"), TextDelta("one "), finished("a"), started("b"), TextDelta("two")
    )
    again = log(started("b"), TextDelta("t"), TextDelta("hree"), finished("b"))
    out = await emitted(before, again)

    assert out[0] == OutputDiscarded(5)
    assert said(before, out) == "one three"


async def test_an_answer_that_is_shorter_the_second_time_is_said_again() -> None:
    before = log(BEGUN, started("a"), TextDelta("Hello, world"))
    out = await emitted(before, [started("a"), TextDelta("Hello"), finished("a")])

    assert said(before, out) == "Hello"


async def test_an_attempt_that_ends_before_it_has_said_all_says_so() -> None:
    before = log(BEGUN, TextDelta("Hello, world"))
    out = await emitted(before, [TextDelta("Hello")], restarted=True)

    assert said(before, out) == "Hello"


async def test_a_step_that_comes_after_the_last_one_says_all_of_its_own() -> None:
    before = log(BEGUN, started("a"), TextDelta("Yes."), finished("a"))

    assert await emitted(before, log(started("b"), TextDelta("Yes."))) == [
        started("b"),
        TextDelta("Yes."),
    ]


async def test_calls_and_steps_are_told_once() -> None:
    before = log(BEGUN, started("a"), CALLED)
    again = log(started("a"), CALLED, PAID, finished("a"))
    assert await emitted(before, again) == [PAID, finished("a")]

    before = log(BEGUN, started("a"), CALLED, PAID, finished("a"))
    assert await emitted(before, again) == []


async def test_a_run_without_checkpoints_says_only_what_is_new() -> None:
    before = log(BEGUN, TextDelta("I look. "), CALLED, PAID, TextDelta("It is "))
    again: list[RunEvent] = [
        TextDelta("I look. "),
        CALLED,
        PAID,
        USED,
        TextDelta("It is so."),
        RunCompleted("stop"),
    ]
    out = await emitted(before, again, restarted=True)

    assert out == [USED, TextDelta("so."), RunCompleted("stop")]


async def test_thoughts_and_text_are_told_apart() -> None:
    before = log(BEGUN, ReasoningDelta("Hm"), TextDelta("A"))
    same = log(ReasoningDelta("Hm"), TextDelta("AB"))
    assert await emitted(before, same, restarted=True) == [TextDelta("B")]

    other = log(TextDelta("Hm"), TextDelta("A"))
    assert (await emitted(before, other, restarted=True))[0] == OutputDiscarded(0)


async def test_calls_that_the_caller_is_to_make_are_made_anew_where_they_differ() -> None:
    first, second = ToolCallDelta(0, "call_a", "f", "{}"), ToolCallDelta(0, "call_b", "f", "{}")

    assert await emitted([BEGUN, first], [first], restarted=True) == []
    assert await emitted([BEGUN, first], [second], restarted=True) == [OutputDiscarded(0), second]


async def test_what_was_discarded_before_is_not_expected_again() -> None:
    before = log(BEGUN, TextDelta("wrong"), OutputDiscarded(0), TextDelta("rig"))

    assert await emitted(before, [TextDelta("right")], restarted=True) == [TextDelta("ht")]


@given(st.text("ab", max_size=6), st.lists(st.text("ab", min_size=1, max_size=3), max_size=4))
async def test_what_counts_in_the_end_is_what_the_last_attempt_said(
    before: str, pieces: list[str]
) -> None:
    earlier = log(BEGUN, *([TextDelta(before)] if before else []))
    out = await emitted(earlier, log(*map(TextDelta, pieces)), restarted=True)

    assert said(earlier, out) == "".join(pieces)
