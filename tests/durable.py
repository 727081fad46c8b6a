"""Attempts of durable runs on a template, without a worker."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.domain.entities.durable import DurableRun, RunOrder
from runtime.domain.entities.runs import RunStatus
from runtime.domain.events.runs import RunEvent
from runtime.domain.repositories.checkpoints import CheckpointStore, Progress
from runtime.domain.services.durability import (
    CallLog,
    Decision,
    Durability,
    Entered,
    RunSuspended,
)
from runtime.domain.services.executor import RunInput
from runtime.domain.services.models import ModelService
from runtime.domain.services.tools import ToolOutcome, ToolService
from runtime.domain.value_objects.chat import ToolCall
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import AgentId, LineId, RunId
from runtime.infrastructure.tools.service import BuiltinTools
from runtime.templates.base import BaseAgentTemplate, Services
from tests.contracts.samples import ANN, NOON, PROJECT
from tests.fakes import MemoryStore
from tests.fakes_checkpoints import MemoryCheckpointStore
from tests.fakes_models import ScriptedModels, an_agent, asks, memory_book


def a_durable_run(id: str = "run_1", *, attempt: int = 1) -> DurableRun:
    return DurableRun(
        id=RunId(id),
        project_id=PROJECT,
        owner_id=ANN,
        agent_id=AgentId("agent_1"),
        line_id=LineId("line_1"),
        model="bot",
        order=RunOrder(caller=Principal(ANN, PROJECT), messages=()),
        status=RunStatus.RUNNING,
        created_at=NOON,
        attempt=attempt,
    )


class AlwaysNew(CallLog):
    """A ledger for tests of other things: every call is made."""

    async def before(
        self, call: ToolCall, *, step: str, repeatable: bool, ask: bool = False
    ) -> Entered:
        return Entered("asked" if ask else "new", call.id, 1)

    async def begin(self, entered: Entered) -> None: ...

    async def after(self, entered: Entered, outcome: ToolOutcome, duration_ms: float) -> None: ...


@dataclass
class DurableTry:
    """One run, attempt after attempt, as different processes would make them."""

    template: type[BaseAgentTemplate]
    models: ModelService = field(default_factory=ScriptedModels)
    tools: ToolService = field(default_factory=BuiltinTools)
    config: Mapping[str, object] = field(default_factory=dict)
    input: RunInput = field(default_factory=lambda: asks("Go"))
    kept: CheckpointStore | None = None
    """Where its steps are; else in memory."""
    goes_on: Callable[[DurableRun], Awaitable[None]] | None = None
    """Puts the run where `kept` sees it."""
    decisions: dict[str, Decision] = field(default_factory=dict)
    attempts: int = 0
    durability: Durability | None = None
    """Of the attempt that goes on."""
    events: list[RunEvent] = field(default_factory=list)
    """What all attempts emitted."""
    flushed: int = 0
    """How many of the events were on record when somebody last waited for that."""

    def __post_init__(self) -> None:
        self.store = MemoryStore()
        self.checkpoints = MemoryCheckpointStore(self.store)

    def instance(self) -> BaseAgentTemplate:
        services = Services(
            self.models, self.tools, memory_book(), checkpoints=self.kept or self.checkpoints
        )
        return self.template.create_instance(an_agent(self.template, **self.config), services)

    async def attempt(self) -> Sequence[RunEvent]:
        """To its end. Raises what the instance raises."""
        self.attempts += 1
        await self._goes_on(self.attempts)
        self.durability = Durability(
            self.attempts, AlwaysNew(), flush=self._flush, decisions=dict(self.decisions)
        )
        emitted: list[RunEvent] = []

        async def emit(event: RunEvent) -> None:
            emitted.append(event)
            self.events.append(event)

        await self.instance().run(replace(self.input, durable=self.durability), emit)
        return emitted

    async def killed(self, when: asyncio.Event) -> None:
        """An attempt that is cut off once `when` is set, and leaves the database as it is."""
        task = asyncio.create_task(self.attempt())
        waiting = asyncio.create_task(when.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        # What is done beside it is done, and written.
        for _ in range(50):
            await asyncio.sleep(0 if self.kept is None else 0.005)
        await self._goes_on(-1)
        for each in (task, waiting):
            each.cancel()
            with suppress(asyncio.CancelledError):
                await each

    async def suspended(self) -> RunSuspended:
        """An attempt that waits for people."""
        try:
            await self.attempt()
        except RunSuspended as pause:
            return pause
        raise AssertionError("the attempt did not wait")

    async def take_away(self) -> None:
        """Another process has the run now."""
        await self._goes_on(self.attempts + 1)

    async def _goes_on(self, attempt: int) -> None:
        run = a_durable_run(self.input.run_id, attempt=attempt)
        if self.goes_on:
            await self.goes_on(run)
        else:
            self.store.tables.durable[run.id] = run

    async def _flush(self, progress: Callable[[], Progress] | None = None) -> None:
        self.flushed = len(self.events)
        if progress:
            kept = self.kept or self.checkpoints
            await kept.save(self.input.run_id, self.attempts, progress())


def approve(value: Any = None) -> Decision:  # noqa: ANN401
    return Decision("approve", value=value)
