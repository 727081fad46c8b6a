"""Turns of sessions, on fakes: who has the session, what the run sees, what is kept."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from runtime.application.commands.runs import ExecuteAgent, SessionRef
from runtime.application.services.batches import Batches
from runtime.application.services.histories import History, HistoryCache
from runtime.application.services.session_holds import SessionDesk
from runtime.application.services.sessions import SessionTurns, session_key
from runtime.domain.errors import (
    ConcurrentChange,
    ConversationNotFound,
    SessionBusy,
    UnsupportedParameter,
    UpstreamFailed,
)
from runtime.domain.events.runs import HistorySummarised, TextDelta
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.value_objects.chat import ChatRole, Message
from runtime.domain.value_objects.identity import LOCAL_ADMIN
from runtime.domain.value_objects.ids import SessionId
from runtime.domain.value_objects.memory import Known, items_from
from tests.contracts.samples import a_line, a_version
from tests.fakes import (
    MemorySessionHolds,
    MemorySessionLog,
    MemoryStore,
    Published,
    memory_unit_of_work,
)
from tests.unit.test_engine import Bench


class Talks:
    """An agent that answers with what it saw, in an engine with sessions."""

    def __init__(self, *, refuse: bool = False, wait_s: float = 5, hold_s: float = 15) -> None:
        self.inputs: list[RunInput] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False
        self.bench = Bench(self.answer)
        self.agent = a_version(a_line())
        store: MemoryStore = self.bench.store
        self.desk = SessionDesk(
            partial(memory_unit_of_work, store, Published()),
            MemorySessionLog(store),
            MemorySessionHolds(store),
            lambda: datetime.now(UTC),
            refuse=refuse,
            wait_s=wait_s,
            hold_s=hold_s,
            renew_every_s=0.05,
        )
        self.turns = SessionTurns(self.desk)
        self.store = store

    async def answer(self, input: RunInput, emit: Emit) -> None:
        self.inputs.append(input)
        await self.gate.wait()
        if self.fails:
            raise UpstreamFailed("It failed.")
        if input.recall and input.recall.to_fold:
            await emit(HistorySummarised(f"told {len(input.recall.to_fold)}"))
        await emit(TextDelta(f"re {input.messages[-1].text}"))

    def command(self, *words: str, name: str = "trip", choices: int = 1) -> ExecuteAgent:
        return ExecuteAgent(
            caller=LOCAL_ADMIN,
            model="support",
            messages=[Message(ChatRole.USER, word) for word in words],
            session=SessionRef(name=name),
            choices=choices,
        )

    async def turn(self, *words: str, name: str = "trip") -> SessionId:
        lease = await self.bench.instances.lease(self.agent)
        turn = await self.turns.begin(self.agent, self.command(*words, name=name), lease.instance)
        self.bench.instances.release(lease)
        execution = await self.bench.engine.start(self.agent, turn.command, [turn])
        await execution.answers()
        return turn.session.id

    def seen(self) -> list[str]:
        return [message.text for message in self.inputs[-1].messages]

    @property
    def remembered(self) -> int:
        return len(self.store.tables.session_items)


async def test_a_turn_sees_the_ones_before_it() -> None:
    talks = Talks()
    first = await talks.turn("one")
    second = await talks.turn("two")

    assert talks.seen() == ["one", "re one", "two"]
    assert first == second
    assert talks.desk.active == 0


async def test_what_is_cached_is_not_taken_for_what_somebody_else_has_written() -> None:
    talks = Talks()
    await talks.turn("one")
    other = Talks()
    other.agent, other.store.tables = talks.agent, talks.store.tables
    await other.turn("two")
    talks.store.tables = other.store.tables
    await talks.turn("three")

    assert talks.seen() == ["one", "re one", "two", "re two", "three"]


async def test_a_failed_turn_leaves_nothing_and_frees_the_session() -> None:
    talks = Talks(refuse=True)
    await talks.turn("one")
    talks.fails = True
    with pytest.raises(UpstreamFailed):
        await talks.turn("two")
    talks.fails = False
    await talks.turn("three")

    assert talks.seen() == ["one", "re one", "three"]


async def test_a_second_turn_waits_for_the_first() -> None:
    talks = Talks()
    talks.gate.clear()
    first = asyncio.create_task(talks.turn("one"))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(talks.turn(word)) for word in ("two", "three")]
    await asyncio.sleep(0.01)
    assert len(talks.inputs) == 1
    talks.gate.set()
    await asyncio.gather(first, *others)

    assert talks.seen() == ["one", "re one", "two", "re two", "three"]


async def test_by_another_name_of_it_a_session_is_waited_for_too() -> None:
    talks = Talks()
    id = await talks.turn("one")
    talks.gate.clear()
    first = asyncio.create_task(talks.turn("two"))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(talks.turn("three", name=id))
    await asyncio.sleep(0.01)
    talks.gate.set()
    await asyncio.gather(first, second)

    assert talks.seen() == ["one", "re one", "two", "re two", "three"]


@pytest.mark.parametrize("settings", [{"refuse": True}, {"wait_s": 0.05}])
async def test_a_second_turn_is_refused(settings: dict[str, float]) -> None:
    talks = Talks(**settings)  # type: ignore[arg-type]
    talks.gate.clear()
    first = asyncio.create_task(talks.turn("one"))
    await asyncio.sleep(0.01)
    with pytest.raises(SessionBusy):
        await talks.turn("two")
    assert talks.desk.active == 1
    talks.gate.set()
    await first


async def test_a_hold_is_renewed_for_as_long_as_the_turn_takes() -> None:
    talks = Talks(hold_s=0.2)
    talks.desk.start()
    talks.gate.clear()
    first = asyncio.create_task(talks.turn("one"))
    await asyncio.sleep(0.4)
    rival = Talks(refuse=True)
    rival.desk.uow, rival.desk.log = talks.desk.uow, talks.desk.log
    rival.agent = talks.agent
    rival.desk.__post_init__()
    with pytest.raises(SessionBusy):
        await rival.turn("two")
    talks.gate.set()
    await first
    await talks.desk.stop()


async def test_a_turn_whose_session_was_taken_over_is_refused_at_its_end() -> None:
    talks = Talks(hold_s=0.02)
    talks.gate.clear()
    first = asyncio.create_task(talks.turn("one"))
    await asyncio.sleep(0.05)
    rival = Talks()
    rival.desk.uow, rival.desk.log = talks.desk.uow, talks.desk.log
    rival.desk.__post_init__()
    rival.agent = talks.agent
    await rival.turn("two")
    talks.gate.set()
    with pytest.raises(ConcurrentChange):
        await first

    assert talks.remembered == 2


async def test_an_unknown_conversation_is_not_found_and_nothing_is_held() -> None:
    talks = Talks()
    with pytest.raises(ConversationNotFound):
        await talks.turn("one", name="conv_404")
    assert talks.desk.active == 0
    assert talks.desk._queues == {}


async def test_a_turn_has_one_answer() -> None:
    talks = Talks()
    lease = await talks.bench.instances.lease(talks.agent)
    with pytest.raises(UnsupportedParameter) as refusal:
        await talks.turns.begin(talks.agent, talks.command("one", choices=2), lease.instance)
    assert refusal.value.param == "n"


async def test_who_leaves_while_the_session_is_taken_frees_it() -> None:
    talks = Talks()
    turn = asyncio.create_task(talks.turn("one"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    await talks.desk.stop()
    async with asyncio.timeout(1):
        await talks.turn("two")
    assert talks.seen() == ["two"]


async def test_only_the_window_is_shown() -> None:
    talks = Talks()
    talks.bench.executor.history_messages = 3
    for word in ("one", "two", "three"):
        await talks.turn(word)
    assert talks.seen() == ["re one", "two", "re two", "three"]

    fresh = SessionTurns(talks.desk, HistoryCache())
    talks.turns = fresh
    await talks.turn("four")
    assert talks.seen() == ["re two", "three", "re three", "four"]


async def test_what_falls_out_is_folded_into_a_summary_once_in_half_a_window() -> None:
    talks = Talks()
    executor = talks.bench.executor
    executor.history_messages, executor.history_summary = 4, True
    folded = []
    for n in range(8):
        await talks.turn(str(n))
        recall = talks.inputs[-1].recall
        folded.append(len(recall.to_fold) if recall else -1)
        before = sum(folded)
        assert talks.seen()[-1] == str(n)
        assert len(talks.seen()) + before == 2 * n + 1
        assert len(talks.seen()) <= 4

    assert folded == [0, 0, 4, 0, 4, 0, 4, 0]
    (session,) = talks.store.tables.sessions.values()
    assert (session.summary, session.summarised) == ("told 4", 12)


async def test_a_summary_of_what_was_edited_away_is_forgotten() -> None:
    talks = Talks()
    executor = talks.bench.executor
    executor.history_messages, executor.history_summary = 4, True
    for n in range(4):
        await talks.turn(str(n))
    lease = await talks.bench.instances.lease(talks.agent)
    texts = [("user", "0"), ("assistant", "re 0"), ("user", "other")]
    sent = [Message(ChatRole(role), text) for role, text in texts]
    command = replace(talks.command("x"), messages=sent)
    turn = await talks.turns.begin(talks.agent, command, lease.instance)
    await (await talks.bench.engine.start(talks.agent, turn.command, [turn])).answers()

    assert talks.seen() == ["0", "re 0", "other"]
    assert talks.inputs[-1].recall is not None
    assert talks.inputs[-1].recall.summary == ""
    (session,) = talks.store.tables.sessions.values()
    assert (session.summary, session.summarised, session.length) == ("", 0, 4)


async def test_a_cache_gives_up_what_was_not_used_for_longest() -> None:
    cache = HistoryCache(size=2_000)
    known = [Known(Message(ChatRole.USER, "x" * 400), 1)]
    for n in range(5):
        cache.put(SessionId(f"conv_{n}"), "r", History(known, 0))

    assert len(cache._kept) == 2
    cache.put(SessionId("conv_big"), "r", History(known * 10, 0))
    assert SessionId("conv_big") not in cache._kept


async def test_what_comes_while_a_batch_is_done_is_done_together_next() -> None:
    batches: list[Sequence[int]] = []
    gate = asyncio.Event()

    async def double(batch: Sequence[int]) -> Sequence[int]:
        batches.append(batch)
        await gate.wait()
        return [2 * each for each in batch]

    doubling = Batches(double)
    asked = [asyncio.create_task(doubling.do(n)) for n in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = asyncio.create_task(doubling.do(9))
    await asyncio.sleep(0)
    asked[1].cancel()
    gate.set()
    results = await asyncio.gather(*asked, late, return_exceptions=True)

    assert [each for each in results if isinstance(each, int)] == [0, 4, 6, 18]
    assert [list(batch) for batch in batches] == [[0, 1, 2, 3], [9]]


async def test_a_batch_that_fails_fails_for_all_who_are_in_it() -> None:
    async def fail(_: Sequence[int]) -> Sequence[int]:
        raise ConcurrentChange("It")

    batches = Batches(fail)
    results = await asyncio.gather(batches.do(1), batches.do(2), return_exceptions=True)
    assert [type(each) for each in results] == [ConcurrentChange] * 2


async def test_items_that_a_door_names_are_kept_as_they_are() -> None:
    talks = Talks()
    await talks.turn("one")
    sent = [Message(ChatRole.ASSISTANT, "mine"), Message(ChatRole.USER, "two")]
    items = items_from(sent)
    lease = await talks.bench.instances.lease(talks.agent)
    command = replace(talks.command("x"), messages=sent, items=items)
    turn = await talks.turns.begin(talks.agent, command, lease.instance)
    await (await talks.bench.engine.start(talks.agent, turn.command, [turn])).answers()

    assert talks.seen() == ["one", "re one", "mine", "two"]
    kept = [item.id for item in talks.store.tables.session_items.values()]
    assert kept[2:4] == [item.id for item in items]


async def test_who_holds_a_session_already_need_not_stand_in_line() -> None:
    """The earlier attempt of a durable run died with it, and the next turn waits for that."""
    talks = Talks()
    key = session_key(talks.agent, SessionRef(name="trip"))
    await talks.desk.take(LOCAL_ADMIN, key, "run_1")
    elsewhere = Talks()
    elsewhere.desk.uow, elsewhere.desk.log = talks.desk.uow, talks.desk.log
    elsewhere.desk.__post_init__()
    next_turn = asyncio.create_task(elsewhere.desk.take(LOCAL_ADMIN, key, "run_2"))
    while not elsewhere.desk._queues:  # noqa: ASYNC110
        await asyncio.sleep(0)

    async with asyncio.timeout(1):
        again = await elsewhere.desk.take(LOCAL_ADMIN, key, "run_1")
        assert not next_turn.done()
        await elsewhere.desk.end(again)
        assert (await next_turn).holder == "run_2"
