"""What becomes of an answer that its caller wants kept."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.completions import CompletionKeeper
from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.errors import InvalidValue
from runtime.domain.events.runs import (
    AnnotationsAdded,
    RefusalDelta,
    RunEvent,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.value_objects.chat import ChatRole, Message, ToolCall, Usage
from runtime.domain.value_objects.completions import checked_labels
from runtime.domain.value_objects.identity import LOCAL_ADMIN
from runtime.domain.value_objects.ids import RunId, completion_id, made_at, new_run_id
from tests.contracts.samples import a_line, a_run, a_version
from tests.fakes import MemoryStore, Published, memory_unit_of_work

ASKED = [Message(ChatRole.USER, "Hello")]


class Bench:
    def __init__(self, choices: int = 1) -> None:
        self.store = MemoryStore()
        agent = a_version(a_line())
        caller = replace(LOCAL_ADMIN, project_id=agent.project_id, user_id=agent.owner_id)
        self.agent = agent
        self.scope = caller.scope
        self.keeper = CompletionKeeper(
            agent,
            ExecuteAgent(
                caller=caller,
                model="support",
                messages=ASKED,
                choices=choices,
                labels={"team": "blue"},
            ),
        )

    async def ended(
        self, id: RunId, *events: RunEvent, status: RunStatus = RunStatus.COMPLETED
    ) -> None:
        run: Run = replace(
            a_run(),
            id=id,
            model="support",
            status=status,
            finish_reason="stop",
            project_id=self.agent.project_id,
            owner_id=self.agent.owner_id,
        )
        uow = partial(memory_unit_of_work, self.store, Published())
        async with uow(self.scope) as work:
            await self.keeper.keep(work, run, events)
            await work.commit()

    @property
    def kept(self) -> list[ChatCompletion]:
        return [completion for completion, _ in self.store.tables.completions.values()]


async def test_an_answer_is_kept_whole() -> None:
    bench = Bench()
    id = new_run_id()
    citation = {"type": "url_citation"}
    token = {"token": "Hel"}
    await bench.ended(
        id,
        TextDelta("Hel", {"content": [token], "refusal": None}),
        TextDelta("lo"),
        RefusalDelta("No.", {"content": None, "refusal": [token]}),
        AnnotationsAdded([citation]),
        ToolCallDelta(0, "call_1", "weather", "{"),
        ToolCallDelta(0, arguments="}"),
        UsageReported(Usage(3, 2), "demo"),
    )

    (kept,) = bench.kept
    (answer,) = kept.choices
    assert kept.id == completion_id(id)
    assert (kept.model, kept.labels) == ("support", {"team": "blue"})
    assert (answer.text, answer.refusal) == ("Hello", "No.")
    assert (answer.logprobs, answer.refusal_logprobs) == ([token], [token])
    assert answer.annotations == [citation]
    assert answer.tool_calls == [ToolCall("call_1", "weather", "{}")]
    assert answer.usage == Usage(3, 2)
    assert answer.events == ()


async def test_choices_are_kept_together_in_their_order_however_they_end() -> None:
    bench = Bench(choices=3)
    ids = [new_run_id() for _ in range(3)]
    for index in (2, 0):
        await bench.ended(ids[index], TextDelta(str(index)))
    assert bench.kept == []
    await bench.ended(ids[1], TextDelta("1"))

    (kept,) = bench.kept
    assert kept.id == completion_id(ids[0])
    assert [answer.text for answer in kept.choices] == ["0", "1", "2"]


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELLED])
async def test_an_answer_of_which_a_choice_failed_is_not_kept(status: RunStatus) -> None:
    bench = Bench(choices=2)
    await bench.ended(new_run_id(), TextDelta("Hello"))
    await bench.ended(new_run_id(), TextDelta("Hel"), status=status)

    assert bench.kept == []


async def test_an_id_tells_when_it_was_made() -> None:
    before = datetime.now(UTC)
    await asyncio.sleep(0.002)
    made = made_at(completion_id(new_run_id()))

    assert before <= made <= datetime.now(UTC)


def test_labels_are_openai_s_metadata() -> None:
    most = {f"{n}" * 32: "x" * 512 for n in range(10, 26)}
    assert checked_labels(most) == most
    for wrong in ({**most, "one": "more"}, {"": "x"}, {"x" * 65: ""}, {"a": "x" * 513}, {"a": 1}):
        with pytest.raises(InvalidValue):
            checked_labels(wrong)
