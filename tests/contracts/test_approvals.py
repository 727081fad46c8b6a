import asyncio
from dataclasses import replace

import pytest

from runtime.application.commands.approvals import DecideApproval
from runtime.application.handlers.approvals import DecideApprovalHandler
from runtime.domain.entities.approvals import Approval
from runtime.domain.entities.durable import DurableRun, RunOrder
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import ApprovalNotFound, InvalidValue
from runtime.domain.repositories.approvals import ApprovalFilter
from runtime.domain.repositories.durable import Ticket
from runtime.domain.services.dispatcher import Begin, RunDispatcher
from runtime.domain.services.durability import ApprovalRequest, Decision
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import Principal, Scope
from runtime.domain.value_objects.ids import AgentId, LineId, RunId
from runtime.infrastructure.signals.local import LocalSignals
from tests.contracts.conftest import Storage
from tests.contracts.samples import ALL, ANN, BOB, NOON, OTHER_PROJECT, PROJECT, all_of
from tests.contracts.samples import minutes_past_noon as minute
from tests.fakes_models import ScriptedTools

ANNS = Scope(PROJECT, ANN)
RUN = DurableRun(
    id=RunId("run_1"),
    project_id=PROJECT,
    owner_id=ANN,
    agent_id=AgentId("agent_1"),
    line_id=LineId("line_1"),
    model="cashier",
    order=RunOrder(caller=Principal(ANN, PROJECT), messages=()),
    status=RunStatus.WAITING,
    created_at=NOON,
)
REQUEST = ApprovalRequest(
    kind="tool",
    key="call_1",
    call_id="call_1",
    tool="pay",
    arguments='{"to": "付", "amount": 5}',
)
YES = Decision("approve", reason="Fine. 好")


def an_approval(key: str = "call_1", *, minutes: float = 0, run: DurableRun = RUN) -> Approval:
    return Approval.asked(run, replace(REQUEST, key=key), minute(minutes))


async def put(uow: UnitOfWorkFactory, *approvals: Approval) -> list[Approval]:
    new: list[Approval] = []
    for each in approvals:
        async with uow(each.scope) as work:
            new += await work.approvals.add_all([each])
            await work.commit()
    return new


async def page_of(
    uow: UnitOfWorkFactory,
    scope: Scope,
    where: ApprovalFilter = ApprovalFilter(),  # noqa: B008
) -> list[Approval]:
    async with uow(scope) as work:
        return list((await work.approvals.page(where, limit=100, after=None)).items)


async def decide(uow: UnitOfWorkFactory, approval: Approval, scope: Scope = ANNS) -> bool:
    async with uow(scope) as work:
        done = await work.approvals.decide(approval)
        await work.commit()
        return done


async def test_an_approval_comes_back_as_it_was_asked_and_answered(uow: UnitOfWorkFactory) -> None:
    said = replace(an_approval(), kind="interrupt", value={"draft": [1, None, "付"]}, tool="")
    await put(uow, said)
    async with uow(ANNS) as work:
        assert await work.approvals.get(said.id) == said

    answered = said.decided(Decision("edit", value=["yes"], reason="好"), BOB, minute(1))
    assert await decide(uow, answered)
    assert await page_of(uow, ANNS) == [answered]


async def test_a_question_is_asked_once(uow: UnitOfWorkFactory) -> None:
    first, again, other = an_approval(), an_approval(minutes=1), an_approval("call_2", minutes=2)

    assert await put(uow, first, again, other) == [first, other]
    async with uow(ANNS) as work:
        assert await work.approvals.of_run(RUN.id) == [first, other]
        assert await work.approvals.of_run(RunId("run_2")) == []


async def test_a_question_is_answered_once(uow: UnitOfWorkFactory) -> None:
    asked = an_approval()
    await put(uow, asked)

    yes = asked.decided(YES, ANN, minute(1))
    assert await decide(uow, yes)
    assert not await decide(uow, asked.decided(Decision("reject"), ANN, minute(2)))
    assert await page_of(uow, ANNS) == [yes]


async def test_who_sees_and_answers_what(uow: UnitOfWorkFactory) -> None:
    anns = an_approval()
    reviewed = replace(an_approval("call_2", minutes=1), approver="reviewer")
    foreign = an_approval(run=replace(RUN, id=RunId("run_9"), project_id=OTHER_PROJECT))
    await put(uow, anns, reviewed, foreign)

    bob, reviewer = Scope(PROJECT, BOB), Scope(PROJECT, BOB, sees_all=True)
    assert await page_of(uow, ANNS) == await page_of(uow, ALL) == [reviewed, anns]
    assert await page_of(uow, reviewer) == [reviewed]
    assert await page_of(uow, bob) == []
    assert await page_of(uow, all_of(OTHER_PROJECT)) == [foreign]
    async with uow(reviewer) as work:
        with pytest.raises(ApprovalNotFound):
            await work.approvals.get(anns.id)
        assert await work.approvals.of_run(RUN.id) == [reviewed]
    assert not await decide(uow, anns.decided(YES, BOB, minute(2)), bob)
    assert await decide(uow, reviewed.decided(YES, BOB, minute(2)), reviewer)


async def test_lists_are_by_run_and_answer_a_page_at_a_time(uow: UnitOfWorkFactory) -> None:
    asked = [an_approval(f"call_{number}", minutes=number) for number in range(3)]
    other = an_approval("call_9", minutes=9, run=replace(RUN, id=RunId("run_2")))
    await put(uow, *asked, other)
    answered = asked[1].decided(YES, ANN, minute(5))
    await decide(uow, answered)

    of_run = await page_of(uow, ANNS, ApprovalFilter(run=RUN.id))
    assert of_run == [asked[2], answered, asked[0]]
    assert await page_of(uow, ANNS, ApprovalFilter(decided=True)) == [answered]
    assert await page_of(uow, ANNS, ApprovalFilter(decided=False)) == [other, asked[2], asked[0]]
    async with uow(ANNS) as work:
        first = await work.approvals.page(ApprovalFilter(), limit=3, after=None)
        rest = await work.approvals.page(ApprovalFilter(), limit=3, after=first.next_cursor)
        with pytest.raises(InvalidValue, match="cursor"):
            await work.approvals.page(ApprovalFilter(), limit=3, after="x")
    assert [*first.items, *rest.items] == [other, asked[2], answered, asked[0]]
    assert rest.next_cursor is None


async def test_what_an_ended_run_asked_waits_for_nobody(uow: UnitOfWorkFactory) -> None:
    asked = an_approval()
    async with uow(ANNS) as work:
        await work.durable.add(RUN)
        await work.commit()
    await put(uow, asked)
    assert await page_of(uow, ANNS, ApprovalFilter(decided=False)) == [asked]
    async with uow(ANNS) as work:
        await work.durable.finish(RUN.ended(RunStatus.CANCELLED, minute(1), None))
        await work.commit()

    assert await page_of(uow, ANNS, ApprovalFilter(decided=False)) == []
    assert await page_of(uow, ANNS, ApprovalFilter(run=RUN.id)) == [asked]


async def test_nobody_asks_in_somebody_elses_name(uow: UnitOfWorkFactory) -> None:
    async with uow(Scope(PROJECT, BOB)) as work:
        with pytest.raises(ValueError, match="somebody else"):
            await work.approvals.add_all([an_approval()])


async def test_a_run_that_waits_does_so_until_the_transaction_ends(storage: Storage) -> None:
    await storage.goes_on(RUN)
    async with storage.uow(ANNS) as work:
        assert await work.durable.waits(RUN.id)
        assert await work.durable.wake(RUN.id)
        assert not await work.durable.waits(RUN.id)
    async with storage.uow(Scope(PROJECT, BOB)) as work:
        assert not await work.durable.waits(RUN.id)
    async with storage.uow(ANNS) as work:
        assert not await work.durable.waits(RunId("run_2"))
        assert await work.durable.waits(RUN.id)


class Nowhere(RunDispatcher):
    async def start(self, begin: Begin) -> None: ...

    async def dispatch(self, run: DurableRun | Ticket) -> None: ...

    async def stop(self) -> None: ...


async def test_of_two_words_at_the_same_time_one_counts(storage: Storage) -> None:
    asked = an_approval()
    await storage.goes_on(RUN)
    await put(storage.uow, asked)
    handle = DecideApprovalHandler(
        storage.uow, lambda: minute(1), ScriptedTools(), Nowhere(), LocalSignals()
    )
    words = [Decision("approve"), Decision("reject"), Decision("reject", reason="No.")]

    async def say(word: Decision) -> object:
        return await handle(DecideApproval(Principal(ANN, PROJECT), RUN.id, asked.id, word))

    results = await asyncio.gather(*map(say, words), return_exceptions=True)
    names = sorted(type(each).__name__ for each in results)
    assert names == ["Approval", "ApprovalIsDecided", "ApprovalIsDecided"]
    async with storage.uow(ANNS) as work:
        assert len(await work.run_events.read(RUN.id, after=0, limit=9)) == 1
        assert (await work.durable.get(RUN.id)).status is RunStatus.QUEUED
