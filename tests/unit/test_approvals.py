"""A person's word on what a run waits for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from runtime.application.commands.approvals import DecideApproval
from runtime.application.handlers.approvals import DecideApprovalHandler
from runtime.application.queries.approvals import ApprovalQueries
from runtime.application.services.recorder import RunRecorder
from runtime.domain.entities.approvals import MAX_REASON, Approval
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import (
    ApprovalChanged,
    ApprovalIsDecided,
    ApprovalNotFound,
    ArgumentsRefused,
    DomainError,
    Forbidden,
    InvalidValue,
    RunNotFound,
    RunNotWaiting,
)
from runtime.domain.events.runs import ApprovalDecided, RunEvent, RunStarted
from runtime.domain.services.durability import ApprovalKind, Decision
from runtime.domain.services.tools import Approver
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import ApprovalId, RunId, UserId
from runtime.domain.value_objects.tool_arguments import fingerprint
from runtime.infrastructure.signals.local import LocalSignals
from tests.contracts.samples import ALL, ANN, BOB, NOON, OTHER_PROJECT, PROJECT, minutes_past_noon
from tests.contracts.test_approvals import ANNS, REQUEST, RUN, an_approval
from tests.fakes import MemoryRunLog, MemoryStore, Published, memory_unit_of_work
from tests.fakes_models import ScriptedTools

OWNER = Principal(ANN, PROJECT)
OTHER = Principal(BOB, PROJECT)
REVIEWER = Principal(UserId("rob"), PROJECT, frozenset({Role.REVIEWER}))
ADMIN = Principal(UserId("ada"), PROJECT, frozenset({Role.ADMIN}))
YES = Decision("approve")


class Dispatched(list[RunId]):
    async def dispatch(self, run: object) -> None:
        self.append(run.id)  # type: ignore[attr-defined]


class Fitting(ScriptedTools):
    def problem(self, name: str, arguments: str) -> str | None:
        return "Wrong arguments: amount." if "much" in arguments else None


@dataclass
class Desk:
    store: MemoryStore = field(default_factory=MemoryStore)
    dispatched: Dispatched = field(default_factory=Dispatched)

    def __post_init__(self) -> None:
        self.uow = partial(memory_unit_of_work, self.store, Published())
        self.handle = DecideApprovalHandler(
            self.uow,
            lambda: minutes_past_noon(1),
            Fitting(),
            self.dispatched,  # type: ignore[arg-type]
            LocalSignals(),
        )

    async def asked(self, *approvals: Approval, status: RunStatus = RunStatus.WAITING) -> None:
        self.store.tables.durable[RUN.id] = replace(RUN, status=status)
        async with self.uow(ANNS) as work:
            await work.approvals.add_all(approvals)
            await work.run_events.append(RUN.id, 0, [RunStarted(RUN.id)])
            await work.commit()

    async def decide(
        self,
        approval: Approval,
        answer: Decision = YES,
        by: Principal = OWNER,
        seen: str | None = None,
    ) -> Approval:
        return await self.handle(DecideApproval(by, RUN.id, approval.id, answer, seen))

    async def events(self) -> Sequence[RunEvent]:
        async with self.uow(ANNS) as work:
            return await work.run_events.read(RUN.id, after=1, limit=100)

    @property
    def status(self) -> RunStatus:
        return self.store.tables.durable[RUN.id].status


async def test_the_last_word_sends_the_run_on() -> None:
    desk, first, second = Desk(), an_approval(), an_approval("call_2", minutes=1)
    await desk.asked(first, second)

    await desk.decide(first)
    assert (desk.status, desk.dispatched) == (RunStatus.WAITING, [])
    await desk.decide(second, Decision("reject", reason="No."))
    assert (desk.status, desk.dispatched) == (RunStatus.QUEUED, [RUN.id])
    assert await desk.events() == [
        ApprovalDecided(first.id, "approve", ANN),
        ApprovalDecided(second.id, "reject", ANN, "No."),
    ]


async def test_a_word_is_in_the_trail_of_the_agent() -> None:
    desk, asked = Desk(), an_approval()
    await desk.asked(asked)
    await desk.decide(asked, by=ADMIN)

    async with desk.uow(ALL) as work:
        (entry,) = (await work.audit.of_line(RUN.line_id, limit=10, after=None)).items
    assert (entry.action, entry.actor_id, entry.owner_id) == ("decide_approval", ADMIN.user_id, ANN)
    assert entry.detail["arguments_hash"] == fingerprint('{"amount":5,"to":"付"}')
    assert entry.detail["decision"] == "approve"


PUBLISHER = replace(REVIEWER, user_id=ANN, may_self_approve=True)


@pytest.mark.parametrize(
    ("approver", "actor", "refusal"),
    [
        ("owner", OWNER, None),
        ("owner", ADMIN, None),
        ("owner", OTHER, ApprovalNotFound),
        ("owner", REVIEWER, ApprovalNotFound),
        ("owner", replace(OWNER, limited_to=frozenset({KeyScope.RUNS_READ})), Forbidden),
        ("owner", replace(ADMIN, project_id=OTHER_PROJECT), ApprovalNotFound),
        ("reviewer", OWNER, Forbidden),
        ("reviewer", OTHER, ApprovalNotFound),
        ("reviewer", REVIEWER, None),
        ("reviewer", ADMIN, None),
        ("reviewer", replace(REVIEWER, user_id=ANN), Forbidden),
        ("reviewer", PUBLISHER, None),
        ("reviewer", replace(REVIEWER, limited_to=frozenset({KeyScope.MODELS})), Forbidden),
        ("reviewer", replace(PUBLISHER, limited_to=frozenset({KeyScope.MODELS})), Forbidden),
    ],
)
async def test_who_decides(
    approver: Approver, actor: Principal, refusal: type[DomainError]
) -> None:
    desk, asked = Desk(), replace(an_approval(), approver=approver)
    await desk.asked(asked)

    if refusal:
        with pytest.raises(refusal):
            await desk.decide(asked, by=actor)
        assert (desk.status, await desk.events()) == (RunStatus.WAITING, [])
    else:
        assert (await desk.decide(asked, by=actor)).decided_by == actor.user_id
        assert desk.status is RunStatus.QUEUED


async def test_the_same_word_twice_is_as_good_as_once() -> None:
    desk, asked = Desk(), an_approval()
    answer = Decision("edit", arguments='{"to": "bob", "amount": 4}')
    await desk.asked(asked)

    first = await desk.decide(asked, answer)
    again = await desk.decide(asked, replace(answer, arguments='{"amount":4,"to":"bob"}'))
    assert first == again
    assert len(await desk.events()) == 1
    for other, by in ((YES, OWNER), (answer, ADMIN)):
        with pytest.raises(ApprovalIsDecided):
            await desk.decide(asked, other, by)


async def test_of_two_words_at_the_same_time_one_counts() -> None:
    desk, asked = Desk(), an_approval()
    await desk.asked(asked)

    words = [desk.decide(asked), desk.decide(asked, Decision("reject"), ADMIN)]
    results = await asyncio.gather(*words, return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["Approval", "ApprovalIsDecided"]
    assert len(await desk.events()) == len(desk.dispatched) == 1


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.CANCELLED])
async def test_a_run_that_does_not_wait_takes_no_word(status: RunStatus) -> None:
    desk, asked = Desk(), an_approval()
    await desk.asked(asked, status=status)

    with pytest.raises(RunNotWaiting):
        await desk.decide(asked)
    assert await desk.events() == []


async def test_arguments_that_do_not_fit_the_tool_are_refused() -> None:
    desk, asked = Desk(), an_approval()
    await desk.asked(asked)

    with pytest.raises(ArgumentsRefused, match="amount"):
        await desk.decide(asked, Decision("edit", arguments='{"amount": "much"}'))
    assert desk.status is RunStatus.WAITING


async def test_a_word_on_other_arguments_than_those_asked_about_is_refused() -> None:
    desk, asked = Desk(), an_approval()
    await desk.asked(asked)

    with pytest.raises(ApprovalChanged):
        await desk.decide(asked, seen=fingerprint('{"to": "付", "amount": 500}'))
    await desk.decide(asked, seen=fingerprint(REQUEST.arguments))
    assert desk.status is RunStatus.QUEUED


@pytest.mark.parametrize(
    ("kind", "answer", "param"),
    [
        ("tool", Decision("edit"), "arguments"),
        ("tool", Decision("approve", arguments="{}"), "arguments"),
        ("tool", Decision("reject", arguments="{}"), "arguments"),
        ("tool", Decision("approve", value=1), "value"),
        ("interrupt", Decision("approve", arguments="{}"), "arguments"),
        ("interrupt", Decision("reject", value="x"), "value"),
        ("outcome_unknown", Decision("edit"), "value"),
        ("outcome_unknown", Decision("approve", value="x"), "value"),
        ("outcome_unknown", Decision("edit", arguments="{}", value="x"), "arguments"),
        ("tool", Decision("approve", reason="x" * (MAX_REASON + 1)), "reason"),
    ],
)
async def test_an_answer_fits_its_question(
    kind: ApprovalKind, answer: Decision, param: str
) -> None:
    desk, asked = Desk(), replace(an_approval(), kind=kind)
    await desk.asked(asked)

    with pytest.raises(InvalidValue) as refused:
        await desk.decide(asked, answer)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("interrupt", YES),
        ("interrupt", Decision("approve", value={"tone": "kind"})),
        ("interrupt", Decision("edit", value="x")),
        ("interrupt", Decision("reject", reason="No.")),
        ("outcome_unknown", YES),
        ("outcome_unknown", Decision("edit", value="paid")),
        ("outcome_unknown", Decision("reject")),
    ],
)
async def test_every_question_has_its_answers(kind: ApprovalKind, answer: Decision) -> None:
    desk, asked = Desk(), replace(an_approval(), kind=kind)
    await desk.asked(asked)

    decided = await desk.decide(asked, answer)
    assert decided.answer == replace(answer, decided_by=ANN)


async def test_an_approval_of_another_run_does_not_exist() -> None:
    desk, asked = Desk(), an_approval()
    await desk.asked(asked)

    for run, id in ((RunId("run_2"), asked.id), (RUN.id, ApprovalId("appr_2"))):
        with pytest.raises(ApprovalNotFound):
            await desk.handle(DecideApproval(OWNER, run, id, YES))


async def test_a_list_of_a_run_that_one_does_not_see_is_refused() -> None:
    desk = Desk()
    queries = ApprovalQueries(desk.uow, RunRecorder(MemoryRunLog(desk.store)))
    await desk.asked()

    assert (await queries.of_run(OWNER, RUN.id, limit=9, after=None)).items == []
    assert (await queries.tool_calls(OWNER, RUN.id, limit=9, after=None)).items == []
    for actor, run in ((OTHER, RUN.id), (REVIEWER, RUN.id), (OWNER, RunId("run_2"))):
        with pytest.raises(RunNotFound):
            await queries.of_run(actor, run, limit=9, after=None)
        with pytest.raises(RunNotFound):
            await queries.tool_calls(actor, run, limit=9, after=None)


async def test_a_reviewer_finds_what_is_theirs_to_decide() -> None:
    desk, mine = Desk(), replace(an_approval(), approver="reviewer")
    queries = ApprovalQueries(desk.uow, RunRecorder(MemoryRunLog(desk.store)))
    await desk.asked(mine, an_approval("call_2"))

    assert (await queries.of_run(REVIEWER, RUN.id, limit=9, after=None)).items == [mine]
    assert mine.requested_at == NOON
