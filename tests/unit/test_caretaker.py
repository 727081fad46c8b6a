"""Looking after the runs of all processes, where one of them can't be helped."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import cast

from runtime.application.handlers.runs import ExecuteAgentHandler
from runtime.application.services.durable.caretaker import Caretaker
from runtime.application.services.durable.endings import Endings
from runtime.application.services.durable.logs import RunLogs
from runtime.application.services.durable.worker import Worker
from runtime.application.services.rulebook import RuleBook, unpriced
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.responses import End
from runtime.domain.entities.runs import RunStatus
from runtime.domain.repositories.durable import AttemptEntry, AttemptLog
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.domain.services.durability import CallLog
from runtime.domain.value_objects.ids import RunId, WorkerId
from runtime.infrastructure.signals.local import LocalSignals
from tests.contracts.samples import NOON
from tests.durable import a_durable_run
from tests.fakes import MemoryStore, Published, memory_unit_of_work
from tests.fakes_durable import MemoryRunQueue, SteadyHeart


class NoLog(AttemptLog):
    async def append(self, entries: Sequence[AttemptEntry]) -> Sequence[bool]:
        return [False] * len(entries)


class NoPrices:
    def price_of(self, _: object) -> object:
        return unpriced


class Stubborn(Endings):
    """Can't end the first run."""

    async def close(self, run: DurableRun, end: End) -> DurableRun:
        if run.id == "run_1":
            raise KeyError("what a newer release wrote")
        return await super().close(run, end)


async def test_a_run_that_can_not_be_ended_keeps_no_other_from_its_deadline() -> None:
    store = MemoryStore()
    late = replace(
        a_durable_run(attempt=0), status=RunStatus.QUEUED, deadline=NOON - timedelta(seconds=1)
    )
    for id in ("run_1", "run_2"):
        store.tables.durable[RunId(id)] = replace(late, id=RunId(id))
    caretaker = _caretaker(store)

    await caretaker.reconcile()
    assert store.tables.durable[RunId("run_2")].status is RunStatus.FAILED
    assert store.tables.durable[RunId("run_1")].status is RunStatus.QUEUED


class Slow(MemoryRunQueue):
    """While it is asked, the next attempt begins here."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__(MemoryStore())
        self._meanwhile = meanwhile

    async def going_on(self, attempts: Mapping[RunId, int]) -> set[RunId]:
        self._meanwhile()
        return set()


class Noted:
    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.has_lost = False

    def lost(self) -> None:
        self.has_lost = True


async def test_an_attempt_that_was_lost_takes_not_the_next_one_with_it() -> None:
    caretaker, old, new = _caretaker(MemoryStore()), Noted(1), Noted(2)
    active = cast(dict[RunId, Noted], caretaker.worker.active)
    active[RunId("run_1")] = old
    caretaker.queue = Slow(lambda: active.update({RunId("run_1"): new}))

    await caretaker.look_at_own()
    assert (old.has_lost, new.has_lost) == (True, False)


def _caretaker(store: MemoryStore) -> Caretaker:
    uow = partial(memory_unit_of_work, store, Published())
    signals = LocalSignals()
    logs = RunLogs(uow, NoLog(), signals)
    endings = Stubborn(uow, cast(RuleBook, NoPrices()), lambda: NOON, signals)
    dispatcher = cast(RunDispatcher, None)
    worker = Worker(
        WorkerId("worker_1"),
        uow,
        logs,
        endings,
        lambda _: cast(CallLog, None),
        cast(ExecuteAgentHandler, None),
        dispatcher,
    )
    return Caretaker(
        uow=uow,
        queue=MemoryRunQueue(store, lambda: NOON),
        worker=worker,
        logs=logs,
        endings=endings,
        dispatcher=dispatcher,
        heart=SteadyHeart(),
        signals=signals,
        now=lambda: NOON,
    )
