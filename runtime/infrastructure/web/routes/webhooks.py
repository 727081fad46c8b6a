from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from runtime.application.commands.webhooks import (
    ChangeWebhook,
    CreateWebhook,
    DeleteWebhook,
    RetryDelivery,
    RotateWebhookSecret,
    TryWebhook,
)
from runtime.application.handlers.webhooks import (
    ChangeWebhookHandler,
    CreateWebhookHandler,
    DeleteWebhookHandler,
    RetryDeliveryHandler,
    RotateWebhookSecretHandler,
    TryWebhookHandler,
)
from runtime.application.queries.webhooks import WebhookQueries
from runtime.domain.entities.webhooks import DeliveryStatus
from runtime.domain.value_objects.ids import WebhookId
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of
from runtime.infrastructure.web.routes.webhooks_wire import (
    DeliveryList,
    DeliveryOut,
    SecretIn,
    WebhookCreate,
    WebhookList,
    WebhookOut,
    WebhookPatch,
    WebhookRemoved,
    WebhookRevealed,
    WebhookTrialOut,
)

router = APIRouter(
    prefix="/v1/webhooks", tags=["Webhooks"], route_class=StrictRoute, responses=PLATFORM_ERRORS
)
Queries = Annotated[WebhookQueries, provided(lambda c: c.webhook_queries())]
Id = Annotated[str, Path(max_length=256)]


@router.post("", status_code=201, responses=errors_of(409, 413))
async def create_webhook(
    body: WebhookCreate,
    response: Response,
    caller: Caller,
    handle: Annotated[CreateWebhookHandler, provided(lambda c: c.create_webhook())],
) -> WebhookRevealed:
    """Be told of events at an address. Messages are signed as Standard Webhooks has it; the answer
    is the only place where the secret is ever shown."""
    command = CreateWebhook(
        actor=caller,
        url=body.url,
        types=frozenset(body.events),
        fields=body.fields(),
        secret=body.given,
    )
    revealed = await handle(command)
    response.headers["Location"] = f"/v1/webhooks/{revealed.webhook.id}"
    return WebhookRevealed.showing(revealed)


@router.get("")
async def list_webhooks(
    caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> WebhookList:
    """Newest first: an admin sees the project's, others their own."""
    page = await queries.page(caller, limit=limit, after=after)
    return WebhookList(
        data=[WebhookOut.of(each) for each in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/{id}")
async def get_webhook(id: Id, caller: Caller, queries: Queries) -> WebhookOut:
    """One webhook, and whether it is failing."""
    return WebhookOut.of(await queries.get(caller, WebhookId(id)))


@router.patch("/{id}", responses=errors_of(409, 413))
async def change_webhook(
    id: Id,
    body: WebhookPatch,
    caller: Caller,
    handle: Annotated[ChangeWebhookHandler, provided(lambda c: c.change_webhook())],
) -> WebhookOut:
    """What is not sent stays. `{"enabled": true}` puts one back into service that the runtime
    disabled."""
    command = ChangeWebhook(actor=caller, id=WebhookId(id), fields=body.fields())
    return WebhookOut.of(await handle(command))


@router.delete("/{id}", responses=errors_of(409))
async def delete_webhook(
    id: Id,
    caller: Caller,
    handle: Annotated[DeleteWebhookHandler, provided(lambda c: c.delete_webhook())],
) -> WebhookRemoved:
    """With its deliveries; what is not delivered by now never is."""
    gone = await handle(DeleteWebhook(actor=caller, id=WebhookId(id)))
    return WebhookRemoved(id=gone.id)


@router.post("/{id}/rotate_secret", responses=errors_of(409, 413))
async def rotate_webhook_secret(
    id: Id,
    caller: Caller,
    handle: Annotated[RotateWebhookSecretHandler, provided(lambda c: c.rotate_webhook_secret())],
    body: SecretIn | None = None,
) -> WebhookRevealed:
    """Sign with a new secret. For 24 hours the one before it signs every message too."""
    secret = body.given if body else None
    command = RotateWebhookSecret(actor=caller, id=WebhookId(id), secret=secret)
    return WebhookRevealed.showing(await handle(command))


@router.post("/{id}/test", responses=errors_of(500))
async def try_webhook(
    id: Id,
    caller: Caller,
    handle: Annotated[TryWebhookHandler, provided(lambda c: c.try_webhook())],
) -> WebhookTrialOut:
    """Send a `webhook.test` now, once, though the webhook is disabled. What the receiver does wrong
    is in the answer."""
    return WebhookTrialOut.of(await handle(TryWebhook(actor=caller, id=WebhookId(id))))


@router.get("/{id}/deliveries")
async def list_webhook_deliveries(
    id: Id,
    caller: Caller,
    queries: Queries,
    status: Annotated[DeliveryStatus | None, Query(description="Only those.")] = None,
    limit: Limit = 50,
    after: After = None,
) -> DeliveryList:
    """What it was told, newest first: what is still tried, delivered, or dead."""
    page = await queries.deliveries(caller, WebhookId(id), status, limit=limit, after=after)
    return DeliveryList(
        data=[DeliveryOut.of(each) for each in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.post("/{id}/deliveries/{delivery_id}/retry")
async def retry_webhook_delivery(
    id: Id,
    delivery_id: Id,
    caller: Caller,
    handle: Annotated[RetryDeliveryHandler, provided(lambda c: c.retry_delivery())],
) -> DeliveryOut:
    """Send it at once, with the same `webhook-id`; a dead or a delivered one, too."""
    command = RetryDelivery(actor=caller, webhook=WebhookId(id), id=delivery_id)
    return DeliveryOut.of(await handle(command))
