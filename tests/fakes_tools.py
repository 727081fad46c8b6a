"""What tools did for durable runs, in memory."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.domain.entities.runs import RunStatus
from runtime.domain.entities.tool_calls import RecordedCall
from runtime.domain.repositories.durable import LedgerCall, ToolLedger
from runtime.domain.repositories.tool_calls import SHOWN_OUTPUT, ToolCallRepository
from runtime.domain.services.durability import AttemptLost, Entered
from runtime.domain.services.tools import ToolOutcome
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.repositories.base import MAX_KEY, storable
from runtime.infrastructure.repositories.cursors import Cursors, Position

if TYPE_CHECKING:
    from tests.fakes import MemoryStore, MemoryTransaction

Called = tuple[LedgerCall, RecordedCall]


class MemoryToolLedger(ToolLedger):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    async def enter(self, call: LedgerCall, found: Collection[str] = ()) -> Entered:
        self._check(call)
        for text in (call.step, call.name, call.arguments):
            storable(text)
        same = self._same(call, found)
        if same is None:
            return self._add(call)
        was = same[1]
        if was.status in ("success", "error"):
            outcome = ToolOutcome(was.status, was.output or "")
            return Entered("finished", was.call_id, was.attempt, outcome, was.duration_ms or 0)
        call = replace(call, call_id=was.call_id)
        if was.status == "asked":
            if call.ask:
                return Entered("asked", was.call_id, was.attempt)
            self._put(same[0], replace(was, status="started", attempt=call.attempt))
            return Entered("new", was.call_id, call.attempt)
        if was.attempt == call.attempt:
            return Entered("new", was.call_id, was.attempt)
        if not call.repeatable:
            return Entered("unknown", was.call_id, was.attempt)
        self._put(same[0], replace(was, attempt=call.attempt))
        return Entered("repeat", was.call_id, call.attempt)

    async def begin(self, call: LedgerCall) -> None:
        self._check(call)
        first, was = self._calls[call.run, call.call_id]
        if was.status in ("asked", "started"):
            begun = replace(was, status="started", attempt=call.attempt, started_at=call.at)
            self._put(first, begun)

    async def finish(self, call: LedgerCall, outcome: ToolOutcome, duration_ms: float) -> None:
        self._check(call)
        storable(outcome.output)
        first, was = self._calls[call.run, call.call_id]
        if was.status in ("asked", "started"):
            ended = replace(
                was, status=outcome.status, output=outcome.output, duration_ms=duration_ms
            )
            self._put(first, ended)

    async def copy(self, source: RunId, target: RunId) -> None:
        for call, was in list(self._calls.values()):
            if was.run_id == source and (target, was.call_id) not in self._calls:
                self._put(replace(call, run=target), replace(was, run_id=target, attempt=0))

    @property
    def _calls(self) -> dict[tuple[RunId, str], Called]:
        return self._store.tables.tool_calls

    def _check(self, call: LedgerCall) -> None:
        run = self._store.tables.durable.get(call.run)
        if run is None or (run.attempt, run.status) != (call.attempt, RunStatus.RUNNING):
            raise AttemptLost

    def _same(self, call: LedgerCall, found: Collection[str]) -> Called | None:
        key = (call.run, call.step, call.name, call.arguments)
        same = [
            each
            for each in self._calls.values()
            if (each[1].run_id, each[1].step, each[1].name, each[1].arguments) == key
            and each[1].call_id not in found
        ]
        return min(
            same,
            key=lambda each: (
                each[1].call_id != call.call_id,
                each[0].occurrence,
                each[1].call_id,
            ),
            default=None,
        )

    def _add(self, call: LedgerCall) -> Entered:
        assert len(call.call_id) <= MAX_KEY
        number, id = 1, call.call_id
        while (call.run, id) in self._calls:
            number += 1
            id = f"{call.call_id}~{number}"
        recorded = RecordedCall(
            run_id=call.run,
            call_id=id,
            step=call.step,
            name=call.name,
            arguments=call.arguments,
            status="asked" if call.ask else "started",
            output=None,
            attempt=call.attempt,
            started_at=call.at,
            duration_ms=None,
        )
        self._put(call, recorded)
        return Entered("asked" if call.ask else "new", id, call.attempt)

    def _put(self, call: LedgerCall, recorded: RecordedCall) -> None:
        self._calls[recorded.run_id, recorded.call_id] = (call, recorded)


class MemoryToolCallRepository(ToolCallRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def of_run(self, run: RunId, *, limit: int, after: str | None) -> Page[RecordedCall]:
        cursors = Cursors(f"tool_calls/{run}")
        start = cursors.read(after) if after is not None else None
        found = [
            replace(was, output=was.output and was.output[:SHOWN_OUTPUT])
            for call, was in self._transaction.tables.tool_calls.values()
            if was.run_id == run
            and self._shown(call.scope)
            and (start is None or _place(was) > start)
        ]
        rest: Sequence[RecordedCall] = sorted(found, key=_place)
        return cursors.page(rest[: limit + 1], limit, _place)

    def _shown(self, owner: Scope) -> bool:
        scope = self._transaction.scope
        mine = scope.administers or owner.user_id == scope.user_id
        return owner.project_id == scope.project_id and mine


def _place(call: RecordedCall) -> Position:
    return Position(call.started_at, call.call_id)
