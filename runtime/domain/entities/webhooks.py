from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from runtime.domain.events.base import Event
from runtime.domain.value_objects.ids import LineId, ProjectId, RunId, UserId, WebhookId
from runtime.domain.value_objects.webhooks import EVERYTHING, OLD_SECRET_LASTS


class WebhookScope(StrEnum):
    """Whose runs and agents an endpoint hears of."""

    OWN = "own"
    """Its owner's."""
    PROJECT = "project"
    """Everybody's in the project."""


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Not tried again by itself."""


@dataclass(kw_only=True, eq=False)
class Webhook:
    """An endpoint that is told of events."""

    id: WebhookId
    project_id: ProjectId
    owner_id: UserId
    url: str
    types: frozenset[str]
    """Of EventType, or EVERYTHING."""
    line_id: LineId | None = None
    """Events of this agent only."""
    scope: WebhookScope = WebhookScope.OWN
    description: str = ""
    enabled: bool = True
    include_output: bool = False
    secret_sealed: str
    previous_sealed: str | None = None
    """Signs too, until `previous_until`."""
    previous_until: datetime | None = None
    failing_since: datetime | None = None
    """When the first of the failures came that no success has followed."""
    disabled_reason: str | None = None
    """Why the runtime disabled it."""
    created_at: datetime
    updated_at: datetime
    revision: int = 1
    events: list[Event] = field(default_factory=list, repr=False)

    @property
    def ordered_types(self) -> list[str]:
        return [EVERYTHING] if EVERYTHING in self.types else sorted(self.types)

    def sealed_at(self, at: datetime) -> Sequence[str]:
        """The secrets that sign then, sealed."""
        old = self.previous_sealed
        if old is None or self.previous_until is None or at >= self.previous_until:
            return [self.secret_sealed]
        return [self.secret_sealed, old]

    def rotate(self, sealed: str, at: datetime) -> None:
        self.previous_sealed, self.secret_sealed = self.secret_sealed, sealed
        self.previous_until = at + OLD_SECRET_LASTS
        self.updated_at = at

    def enable(self) -> None:
        self.enabled = True
        self.failing_since = self.disabled_reason = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one endpoint, or for the callback of a run."""

    id: str
    """Sent as `webhook-id` with every try."""
    project_id: ProjectId
    owner_id: UserId
    webhook_id: WebhookId | None
    run_id: RunId | None = None
    """Of the callback."""
    type: str
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: int = 0
    created_at: datetime
    next_at: datetime | None
    """None once it is decided."""
    ended_at: datetime | None = None
    status_code: int | None = None
    """What the last try was answered with."""
    error: str | None = None
    """Why the last try failed."""
    response: str | None = None
    """The beginning of the last answer."""
