from dataclasses import dataclass

from runtime.domain.entities.webhooks import Delivery, DeliveryStatus, Webhook
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import WebhookId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True)
class WebhookQueries:
    """One's own endpoints; for an admin the project's."""

    uow: UnitOfWorkFactory

    async def page(self, actor: Principal, *, limit: int, after: str | None) -> Page[Webhook]:
        actor.require_scope(KeyScope.WEBHOOKS)
        async with self.uow(actor.scope) as work:
            return await work.webhooks.page(limit=limit, after=after)

    async def get(self, actor: Principal, id: WebhookId) -> Webhook:
        """Raises WebhookNotFound."""
        actor.require_scope(KeyScope.WEBHOOKS)
        async with self.uow(actor.scope) as work:
            return await work.webhooks.get(id)

    async def deliveries(
        self,
        actor: Principal,
        id: WebhookId,
        status: DeliveryStatus | None,
        *,
        limit: int,
        after: str | None,
    ) -> Page[Delivery]:
        """Raises WebhookNotFound."""
        actor.require_scope(KeyScope.WEBHOOKS)
        async with self.uow(actor.scope) as work:
            await work.webhooks.get(id)
            return await work.webhooks.deliveries(id, status, limit=limit, after=after)
