"""Where endpoints are kept, and the outbox of what they are told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from runtime.domain.entities.webhooks import Delivery, DeliveryStatus, Webhook
from runtime.domain.value_objects.ids import ProjectId, RunId, WebhookId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.webhooks import WebhookEvent


class WebhookRepository(Protocol):
    """Endpoints of the scope's project; without `administers`, one's own."""

    async def add(self, webhook: Webhook) -> None: ...

    async def get(self, id: WebhookId) -> Webhook:
        """Raises WebhookNotFound."""

    async def save(self, webhook: Webhook) -> None:
        """Raises ConcurrentChange."""

    async def remove(self, webhook: Webhook) -> None:
        """With its deliveries. Raises ConcurrentChange."""

    async def count_own(self) -> int:
        """Those of the scope's user."""

    async def page(self, *, limit: int, after: str | None) -> Page[Webhook]:
        """Newest first. Raises InvalidValue for a cursor that is none of this list's."""

    async def queue(self, event: WebhookEvent) -> None:
        """A delivery for each enabled endpoint of the project that wants the event and may see
        it, whoever has it, and for the callback. They are sent once this is committed."""

    async def deliveries(
        self, id: WebhookId, status: DeliveryStatus | None, *, limit: int, after: str | None
    ) -> Page[Delivery]:
        """Newest first, as `page`."""

    async def try_again(self, id: WebhookId, delivery: str, at: datetime) -> Delivery:
        """PENDING, and due. Raises DeliveryNotFound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is this process's to try, for a while."""

    id: str
    attempt: int
    target: str
    """What is called at most a few times at once: the endpoint, or a callback's host."""
    project_id: ProjectId
    url: str
    body: str
    webhook: Webhook | None
    """None for the callback of a run."""
    run_id: RunId | None = None
    callback_sealed: str = field(default="", repr=False)
    """Empty: it is sent without a signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of a try."""

    status: DeliveryStatus
    next_at: datetime | None = None
    status_code: int | None = None
    error: str | None = None
    response: str | None = None
    disable: str | None = None
    """Why the endpoint is to be disabled at once."""
    sent: bool = True
    """False: it tells nothing of the endpoint."""


class DeliveryQueue(Protocol):
    """Deliveries of every project, for the processes that send them. Every call raises
    DatabaseUnavailable, and is one transaction."""

    async def claim(
        self,
        at: datetime,
        until: datetime,
        *,
        room: int,
        per_target: int,
        going_on: Mapping[str, int],
    ) -> Sequence[Claimed]:
        """At most `room` of those that are due, the oldest first; of each target not more than
        `per_target` together with those that are going on. Nobody else claims them before
        `until`."""

    async def finish(self, claimed: Claimed, tried: Tried, at: datetime) -> bool:
        """False, and nothing is written, when somebody else has claimed it since.

        Disables the endpoint when it has failed for FAILING_FOR."""

    async def give_back(self, claimed: Sequence[Claimed], at: datetime) -> None:
        """Due again at once, as if they had not been claimed."""
