from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.domain.entities.approvals import Approval
from runtime.domain.value_objects.ids import ApprovalId, RunId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    run: RunId | None = None
    decided: bool | None = None
    """False: those that somebody still has to decide, so that their run goes on."""


class ApprovalRepository(Protocol):
    """Approvals of the scope's project: with `administers` all, with `sees_all` one's own and
    those that a reviewer decides on, else one's own."""

    async def add_all(self, asked: Sequence[Approval]) -> Sequence[Approval]:
        """Those that are new: a question that its run asked before, by key, stays as it is."""

    async def get(self, id: ApprovalId) -> Approval:
        """Raises ApprovalNotFound."""

    async def of_run(self, run: RunId) -> Sequence[Approval]:
        """In the order of their requests."""

    async def decide(self, approval: Approval) -> bool:
        """Write the answer. False when there is one."""

    async def page(self, where: ApprovalFilter, *, limit: int, after: str | None) -> Page[Approval]:
        """Newest first. Raises InvalidValue for a cursor that is none of this list's."""
