from dataclasses import replace

import pytest

from runtime.domain.entities.durable import DurableRun, RunOrder
from runtime.domain.entities.runs import RunStatus
from runtime.domain.entities.tool_calls import RecordedCall
from runtime.domain.errors import InvalidValue
from runtime.domain.repositories.durable import LedgerCall
from runtime.domain.repositories.tool_calls import SHOWN_OUTPUT
from runtime.domain.services.durability import AttemptLost, Entered
from runtime.domain.services.tools import ToolOutcome
from runtime.domain.value_objects.identity import Principal, Scope
from runtime.domain.value_objects.ids import AgentId, LineId, RunId
from tests.contracts.conftest import Storage
from tests.contracts.samples import ALL, ANN, BOB, NOON, OTHER_PROJECT, PROJECT, all_of
from tests.contracts.samples import minutes_past_noon as minute

RUN = RunId("run_1")
PAID = ToolOutcome("success", "paid 付")


def a_call(id: str = "call_1", *, attempt: int = 1, occurrence: int = 0) -> LedgerCall:
    return LedgerCall(
        run=RUN,
        scope=Scope(PROJECT, ANN),
        attempt=attempt,
        call_id=id,
        step="tools:1",
        occurrence=occurrence,
        name="pay",
        arguments='{"amount":5}',
        repeatable=False,
        at=NOON,
    )


async def goes_on(storage: Storage, attempt: int, id: RunId = RUN) -> None:
    run = DurableRun(
        id=id,
        project_id=PROJECT,
        owner_id=ANN,
        agent_id=AgentId("agent_1"),
        line_id=LineId("line_1"),
        model="cashier",
        order=RunOrder(caller=Principal(ANN, PROJECT), messages=()),
        status=RunStatus.RUNNING,
        created_at=NOON,
        attempt=attempt,
    )
    await storage.goes_on(run)


async def paid(storage: Storage, call: LedgerCall) -> Entered:
    entered = await storage.tool_ledger.enter(call)
    await storage.tool_ledger.finish(call, PAID, 12.5)
    return entered


async def calls_of(storage: Storage, run: RunId = RUN, scope: Scope = ALL) -> list[RecordedCall]:
    async with storage.uow(scope) as work:
        return list((await work.tool_calls.of_run(run, limit=100, after=None)).items)


async def test_a_call_is_new_once_and_then_finished(storage: Storage) -> None:
    await goes_on(storage, 1)
    assert await paid(storage, a_call()) == Entered("new", "call_1", 1)

    await goes_on(storage, 2)
    again = await storage.tool_ledger.enter(a_call(attempt=2))
    assert again == Entered("finished", "call_1", 1, PAID, 12.5)


async def test_a_call_whose_record_was_not_confirmed_is_still_new(storage: Storage) -> None:
    await goes_on(storage, 1)
    await storage.tool_ledger.enter(a_call())

    assert await storage.tool_ledger.enter(a_call()) == Entered("new", "call_1", 1)
    assert len(await calls_of(storage)) == 1


async def test_what_was_in_flight_is_unknown_or_repeated(storage: Storage) -> None:
    reading = replace(a_call("call_2"), name="look", repeatable=True)
    await goes_on(storage, 1)
    for call in (a_call(), reading):
        await storage.tool_ledger.enter(call)

    await goes_on(storage, 2)
    unknown = await storage.tool_ledger.enter(a_call(attempt=2))
    repeat = await storage.tool_ledger.enter(replace(reading, attempt=2))
    assert unknown == Entered("unknown", "call_1", 1)
    assert repeat == Entered("repeat", "call_2", 2)


async def test_a_call_with_another_id_is_found_by_what_it_does(storage: Storage) -> None:
    await goes_on(storage, 1)
    await paid(storage, a_call())

    await goes_on(storage, 2)
    entered = await storage.tool_ledger.enter(a_call("call_other", attempt=2))
    assert (entered.state, entered.call_id) == ("finished", "call_1")


@pytest.mark.parametrize(
    "other",
    [
        replace(a_call("call_other", attempt=2), step="tools:2"),
        replace(a_call("call_other", attempt=2), name="refund"),
        replace(a_call("call_other", attempt=2), arguments='{"amount":6}'),
    ],
)
async def test_a_call_that_does_something_else_is_new(storage: Storage, other: LedgerCall) -> None:
    await goes_on(storage, 1)
    await paid(storage, a_call())

    await goes_on(storage, 2)
    assert await storage.tool_ledger.enter(other) == Entered("new", "call_other", 2)


async def test_an_id_that_is_used_twice_names_two_calls(storage: Storage) -> None:
    await goes_on(storage, 1)
    await paid(storage, a_call("call_%"))

    other = replace(a_call("call_%"), arguments="{}")
    assert (await storage.tool_ledger.enter(other)).call_id == "call_%~2"
    third = await storage.tool_ledger.enter(a_call("call_%"), {"call_%", "call_%~2"})
    assert third == Entered("new", "call_%~3", 1)


async def test_two_identical_calls_each_have_their_own_record(storage: Storage) -> None:
    await goes_on(storage, 1)
    await paid(storage, a_call("call_1"))
    await storage.tool_ledger.enter(a_call("call_2", occurrence=1), {"call_1"})

    await goes_on(storage, 2)
    ledger = storage.tool_ledger
    first = await ledger.enter(a_call("call_8", attempt=2))
    second = await ledger.enter(a_call("call_9", attempt=2, occurrence=1), {first.call_id})
    assert (first.state, first.call_id) == ("finished", "call_1")
    assert (second.state, second.call_id) == ("unknown", "call_2")
    own = await ledger.enter(a_call("call_2", attempt=2))
    assert own.state == "unknown"


async def test_a_call_that_waits_for_a_person_was_not_made(storage: Storage) -> None:
    asking = replace(a_call(), ask=True)
    await goes_on(storage, 1)
    assert await storage.tool_ledger.enter(asking) == Entered("asked", "call_1", 1)

    await goes_on(storage, 2)
    asking = replace(asking, attempt=2, at=minute(1))
    assert await storage.tool_ledger.enter(asking) == Entered("asked", "call_1", 1)
    await storage.tool_ledger.begin(asking)
    (call,) = await calls_of(storage)
    assert (call.status, call.attempt, call.started_at) == ("started", 2, minute(1))

    await goes_on(storage, 3)
    assert (await storage.tool_ledger.enter(replace(asking, attempt=3))).state == "unknown"


async def test_a_call_that_asks_nobody_any_more_is_new(storage: Storage) -> None:
    await goes_on(storage, 1)
    await storage.tool_ledger.enter(replace(a_call(), ask=True))

    await goes_on(storage, 2)
    assert await storage.tool_ledger.enter(a_call(attempt=2)) == Entered("new", "call_1", 2)
    assert (await calls_of(storage))[0].status == "started"


async def test_what_is_recorded_first_stays(storage: Storage) -> None:
    await goes_on(storage, 1)
    await paid(storage, a_call())
    await storage.tool_ledger.finish(a_call(), ToolOutcome("error", "late"), 1)
    await storage.tool_ledger.begin(a_call())

    assert (await storage.tool_ledger.enter(a_call())).outcome == PAID


async def test_an_attempt_that_lost_the_run_writes_nothing(storage: Storage) -> None:
    with pytest.raises(AttemptLost):
        await storage.tool_ledger.enter(replace(a_call(), run=RunId("run_unknown")))
    await goes_on(storage, 1)
    await storage.tool_ledger.enter(a_call())
    await goes_on(storage, 2)

    with pytest.raises(AttemptLost):
        await storage.tool_ledger.enter(a_call("call_2"))
    with pytest.raises(AttemptLost):
        await storage.tool_ledger.begin(a_call())
    with pytest.raises(AttemptLost):
        await storage.tool_ledger.finish(a_call(), PAID, 1)
    (call,) = await calls_of(storage)
    assert (call.status, call.output) == ("started", None)


async def test_a_copy_has_what_finished_and_what_nobody_knows_of(storage: Storage) -> None:
    other = RunId("run_2")
    await goes_on(storage, 1)
    await goes_on(storage, 1, other)
    await paid(storage, a_call())
    await storage.tool_ledger.enter(replace(a_call("call_2"), arguments="{}"))

    for _ in range(2):
        await storage.tool_ledger.copy(RUN, other)
    known = await storage.tool_ledger.enter(replace(a_call(), run=other))
    unknown = replace(a_call("call_2"), run=other, arguments="{}")
    assert known == Entered("finished", "call_1", 0, PAID, 12.5)
    assert await storage.tool_ledger.enter(unknown) == Entered("unknown", "call_2", 0)
    assert len(await calls_of(storage)) == 2


async def test_calls_are_their_owners_and_the_admins_oldest_first(storage: Storage) -> None:
    await goes_on(storage, 1)
    await storage.tool_ledger.enter(replace(a_call("call_b"), at=minute(1), name="look"))
    await paid(storage, a_call("call_a"))

    for scope in (ALL, Scope(PROJECT, ANN)):
        shown = await calls_of(storage, scope=scope)
        assert [call.call_id for call in shown] == ["call_a", "call_b"]
    for scope in (Scope(PROJECT, BOB), all_of(OTHER_PROJECT)):
        assert await calls_of(storage, scope=scope) == []
    assert await calls_of(storage, RunId("run_2")) == []


async def test_a_page_goes_on_where_the_one_before_ended(storage: Storage) -> None:
    await goes_on(storage, 1)
    for number in range(3):
        call = replace(a_call(f"call_{number}"), arguments=str(number))
        await storage.tool_ledger.enter(call)

    async with storage.uow(ALL) as work:
        first = await work.tool_calls.of_run(RUN, limit=2, after=None)
        rest = await work.tool_calls.of_run(RUN, limit=2, after=first.next_cursor)
        with pytest.raises(InvalidValue, match="cursor"):
            await work.tool_calls.of_run(RunId("run_2"), limit=2, after=first.next_cursor)
    assert [call.call_id for call in (*first.items, *rest.items)] == ["call_0", "call_1", "call_2"]
    assert rest.next_cursor is None


async def test_a_large_output_is_kept_whole_and_shown_in_part(storage: Storage) -> None:
    large = ToolOutcome("success", "付" * 1_000_000)
    await goes_on(storage, 1)
    await storage.tool_ledger.enter(a_call())
    await storage.tool_ledger.finish(a_call(), large, 1)

    assert (await storage.tool_ledger.enter(a_call())).outcome == large
    assert (await calls_of(storage))[0].output == "付" * SHOWN_OUTPUT
