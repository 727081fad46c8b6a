"""Endpoints that are told of events."""

from runtime.domain.errors.kinds import Conflict, NotFound


class WebhookNotFound(NotFound):
    code = "webhook_not_found"

    def __init__(self, webhook: object) -> None:
        super().__init__(f"Webhook '{webhook}' does not exist.", param="id")


class DeliveryNotFound(NotFound):
    code = "delivery_not_found"

    def __init__(self, delivery: object) -> None:
        super().__init__(f"Delivery '{delivery}' does not exist.", param="delivery_id")


class TooManyWebhooks(Conflict):
    code = "too_many_webhooks"

    def __init__(self, most: int) -> None:
        super().__init__(f"You have {most} webhooks already; delete one first.")
