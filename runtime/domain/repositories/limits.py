from collections.abc import Sequence
from datetime import date
from typing import Protocol

from runtime.domain.entities.limits import LimitRule, PriceRule, UsageDay
from runtime.domain.value_objects.limits import LimitScope, Spent, Subject
from runtime.domain.value_objects.pages import Page


class LimitRepository(Protocol):
    """Rules of the scope's project; without `administers`, the project's own and those of one's
    keys and agents."""

    async def get(self, subject: Subject) -> LimitRule:
        """Raises LimitNotFound."""

    async def put(self, rule: LimitRule) -> None:
        """In place of the subject's former rule."""

    async def remove(self, rule: LimitRule) -> None: ...

    async def page(self, *, limit: int, after: str | None) -> Page[LimitRule]:
        """The last changed first. Raises InvalidValue for a cursor that is none of this list's."""


class PriceRepository(Protocol):
    """Prices of the scope's project."""

    async def get(self, model: str) -> PriceRule:
        """Raises PriceNotFound."""

    async def put(self, rule: PriceRule) -> None: ...

    async def remove(self, rule: PriceRule) -> None: ...

    async def page(self, *, limit: int, after: str | None) -> Page[PriceRule]:
        """The last changed first. Raises InvalidValue for a cursor that is none of this list's."""


class UsageRepository(Protocol):
    """Counters of the scope's project; without `administers`, of one's keys and agents."""

    async def days(self, scope: LimitScope, since: date, until: date) -> Sequence[UsageDay]:
        """Both days included; the newest first."""


class Ledger(Protocol):
    """Rules and counters of every project, outside a caller's transaction.

    Any call raises DatabaseUnavailable while the store can't be reached.
    """

    async def rules(self) -> tuple[Sequence[LimitRule], Sequence[PriceRule]]: ...

    async def spent(self, asked: Sequence[tuple[Subject, date | None]]) -> Sequence[Spent]:
        """Of each subject, since that day."""

    async def charge(self, days: Sequence[UsageDay]) -> None:
        """Add to the counters; all or none."""
