"""An attempt and its log, where answers to commits are lost."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import cast

import pytest

from runtime.application.services.durable.attempt import Attempt
from runtime.application.services.durable.endings import Endings
from runtime.application.services.durable.logs import RunLogs
from runtime.application.services.rulebook import RuleBook
from runtime.domain.entities.durable import DurableRun, RunOrder
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.events.runs import RunEvent, RunStarted, TextDelta
from runtime.domain.repositories.durable import AttemptEntry, AttemptLog
from runtime.domain.services.durability import CallLog, Durability
from runtime.domain.value_objects.identity import Principal, Role
from runtime.domain.value_objects.ids import AgentId, LineId, ProjectId, RunId, UserId
from runtime.infrastructure.signals.local import LocalSignals
from tests.fakes import MemoryStore, Published, memory_unit_of_work

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ANN = Principal(UserId("ann"), ProjectId("default"), frozenset({Role.VIEWER}))
RUN = DurableRun(
    id=RunId("run_1"),
    project_id=ANN.project_id,
    owner_id=ANN.user_id,
    agent_id=AgentId("agent_1"),
    line_id=LineId("line_1"),
    model="assistant",
    order=RunOrder(caller=ANN, messages=()),
    status=RunStatus.RUNNING,
    created_at=NOW,
    attempt=1,
)


class LossyLog(AttemptLog):
    """Writes what is not there yet; some of its answers are lost."""

    def __init__(self) -> None:
        self.written: dict[int, RunEvent] = {}
        self.losing: list[Callable[[], Awaitable[None]]] = []
        """For each answer that is lost, what happens meanwhile."""

    async def append(self, entries: Sequence[AttemptEntry]) -> Sequence[bool]:
        for entry in entries:
            for seq, event in enumerate(entry.events, entry.after + 1):
                self.written.setdefault(seq, event)
        if self.losing:
            await self.losing.pop(0)()
            raise DatabaseUnavailable
        return [True] * len(entries)

    @property
    def events(self) -> list[RunEvent]:
        return [event for _, event in sorted(self.written.items())]


@pytest.fixture
def log() -> LossyLog:
    return LossyLog()


@pytest.fixture
def attempt(log: LossyLog) -> Attempt:
    uow = partial(memory_unit_of_work, MemoryStore(), Published())
    endings = Endings(uow, cast(RuleBook, None), lambda: NOW, LocalSignals())
    durability = Durability(attempt=1, calls=cast(CallLog, None))
    return Attempt(RunLogs(uow, log, LocalSignals()), endings, RUN, (), durability)


async def test_what_comes_while_an_answer_is_lost_is_not_merged_into_what_was_written(
    attempt: Attempt, log: LossyLog
) -> None:
    log.losing = [partial(attempt.put, TextDelta(text)) for text in ("two ", "three")]
    await attempt.put(RunStarted(RUN.id))
    await attempt.put(TextDelta("One "))
    await attempt.flush()

    said = [event.text for event in log.events if isinstance(event, TextDelta)]
    assert said == ["One ", "two ", "three"]
    assert attempt.logged == log.events
    await attempt.put(TextDelta("!"))
    await attempt.flush()
    assert attempt.logged == log.events
