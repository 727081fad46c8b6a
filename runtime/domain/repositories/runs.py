from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.value_objects.ids import AgentId, RunId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True, slots=True)
class RunFilter:
    agent_id: AgentId | None = None
    status: RunStatus | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunTotals:
    runs: int
    failed: int
    average_duration_ms: float
    """0 when there is no run."""


class RunRepository(Protocol):
    """Runs of the scope's project; without `administers`, one's own."""

    async def get(self, id: RunId) -> Run:
        """The record of one that has ended. Raises RunNotFound."""

    async def page(
        self, where: RunFilter, *, limit: int, after: str | None
    ) -> Page[Run | DurableRun]:
        """Newest first: records of those that have ended, and durable ones that have not. Raises
        InvalidValue for a cursor that is none of this list's."""

    async def record(self, run: Run) -> None:
        """Write it with what it used. One that is there already is left as it is."""

    async def totals(self) -> RunTotals: ...


class RunLog(Protocol):
    """Where ended runs are written, of every project, outside a caller's transaction."""

    async def write(self, runs: Sequence[Run]) -> None:
        """All or none. A run already there is left as it is, so a repeated write is harmless.

        Raises DatabaseUnavailable.
        """
