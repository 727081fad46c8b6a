"""The tool ledger as one attempt uses it."""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import stamina

from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.durable import LedgerCall, ToolLedger
from runtime.domain.services.durability import CallLog, Entered
from runtime.domain.services.tools import ToolOutcome
from runtime.domain.value_objects.chat import ToolCall
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.tool_arguments import canonical, keepable

T = TypeVar("T")

PATIENCE_S = 20.0
"""How long the database may be away before a call's record is given up, and the attempt with it."""
_PLAIN_ID = re.compile(r"[\x21-\x7e]{1,200}")


class AttemptCalls(CallLog):
    def __init__(
        self,
        ledger: ToolLedger,
        run: RunId,
        scope: Scope,
        attempt: int,
        now: Callable[[], datetime],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`scope`: the run's owner's."""
        self._ledger = ledger
        self._run = run
        self._scope = scope
        self._attempt = attempt
        self._now = now
        self._patience_s = patience_s
        self._times: Counter[tuple[str, str, str]] = Counter()
        self._calls: dict[str, LedgerCall] = {}
        """Those that this attempt has been given, by the id that they have on record."""
        self._entering = asyncio.Lock()
        self._writing: set[asyncio.Task[None]] = set()

    async def before(
        self, call: ToolCall, *, step: str, repeatable: bool, ask: bool = False
    ) -> Entered:
        arguments = canonical(call.arguments)
        same = (step, call.name, arguments)
        entry = LedgerCall(
            run=self._run,
            scope=self._scope,
            attempt=self._attempt,
            call_id=_plain_id(call.id),
            step=keepable(step),
            occurrence=self._times[same],
            name=keepable(call.name),
            arguments=arguments,
            repeatable=repeatable,
            ask=ask,
            at=self._now(),
        )
        self._times[same] += 1
        # One at a time: two calls of the same kind must not find the same record.
        async with self._entering:
            found = frozenset(self._calls)
            entered = await self._patiently(lambda: self._ledger.enter(entry, found))
            self._calls[entered.call_id] = replace(entry, call_id=entered.call_id)
        return entered

    async def begin(self, entered: Entered) -> None:
        entry = replace(self._calls[entered.call_id], at=self._now())
        await self._patiently(lambda: self._ledger.begin(entry))

    async def after(self, entered: Entered, outcome: ToolOutcome, duration_ms: float) -> None:
        entry = self._calls[entered.call_id]
        kept = replace(outcome, output=keepable(outcome.output))
        write = self._patiently(lambda: self._ledger.finish(entry, kept, duration_ms))
        # What a tool has done is recorded even when nobody waits for it any more.
        task = asyncio.ensure_future(write)
        self._writing.add(task)
        task.add_done_callback(self._written)
        await asyncio.shield(task)

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever waited has it; else the run is another attempt's by now.

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        async for attempt in _tries(self._patience_s):
            with attempt:
                return await ask()
        raise AssertionError("the last try returns or raises")


def _tries(patience_s: float) -> AsyncIterator[stamina.Attempt]:
    return aiter(
        stamina.retry_context(
            on=DatabaseUnavailable,
            attempts=None,
            timeout=patience_s,
            wait_initial=0.05,
            wait_max=1,
            wait_jitter=0.1,
        )
    )


def _plain_id(id: str) -> str:
    """Ids are the model's: some are empty, or no id at all."""
    if _PLAIN_ID.fullmatch(id):
        return id
    return f"call_{hashlib.sha256(id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
