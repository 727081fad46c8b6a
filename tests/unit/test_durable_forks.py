"""Runs that go on from what others left, where there is no room for them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import cast

import pytest

from runtime.application.commands.durable_forks import ResumeRun
from runtime.application.handlers.durable_forks import ResumeRunHandler
from runtime.application.services.durable.desk import RunDesk
from runtime.application.services.durable.endings import Endings
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import TooManyQueuedRuns
from runtime.domain.services.states import GraphStates
from runtime.domain.value_objects.identity import Principal, Role
from runtime.domain.value_objects.ids import RunId
from tests.contracts.samples import ANN, NOON, PROJECT
from tests.durable import a_durable_run
from tests.fakes import MemoryStore, Published, memory_unit_of_work
from tests.fakes_checkpoints import MemoryCheckpointStore
from tests.fakes_schedules import NotedDispatcher
from tests.fakes_tools import MemoryToolLedger


class NotedLedger(MemoryToolLedger):
    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.copied: Sequence[RunId] = ()

    async def copy(self, source: RunId, target: RunId) -> None:
        self.copied = (*self.copied, target)


@pytest.mark.parametrize(("most_queued", "copies"), [(0, 0), (1, 1)])
async def test_nothing_is_copied_for_a_run_that_the_queue_has_no_room_for(
    most_queued: int, copies: int
) -> None:
    store = MemoryStore()
    uow = partial(memory_unit_of_work, store, Published())
    failed = replace(a_durable_run(), status=RunStatus.FAILED, ended_at=NOON + timedelta(seconds=1))
    store.tables.durable[failed.id] = failed
    ledger = NotedLedger(store)
    resume = ResumeRunHandler(
        uow=uow,
        desk=RunDesk(uow, NotedDispatcher(), cast(Endings, None), most_queued),
        store=MemoryCheckpointStore(store),
        states=cast(GraphStates, None),
        ledger=ledger,
        now=lambda: NOON,
    )

    command = ResumeRun(Principal(ANN, PROJECT, frozenset({Role.VIEWER})), failed.id)
    if copies:
        await resume(command)
    else:
        with pytest.raises(TooManyQueuedRuns):
            await resume(command)
    assert len(ledger.copied) == copies
