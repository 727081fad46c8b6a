"""Commands that change webhooks: each one transaction, with its row in the audit trail."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from runtime.application.commands.webhooks import (
    ChangeWebhook,
    CreateWebhook,
    DeleteWebhook,
    RetryDelivery,
    RotateWebhookSecret,
    TryWebhook,
    WebhookFields,
)
from runtime.application.queries.agents import one_agent
from runtime.application.services.auditing import rule_entry
from runtime.application.services.webhooks.courier import fault
from runtime.application.services.webhooks.events import trial_payload
from runtime.application.services.webhooks.secrets import WebhookSecrets
from runtime.domain.entities.webhooks import Delivery, Webhook, WebhookScope
from runtime.domain.errors import (
    EgressRefused,
    TooManyWebhooks,
    UpstreamFailed,
    UpstreamTimeout,
)
from runtime.domain.services.webhooks import Answered, WebhookSender
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import LineId, new_webhook_id, uuid7_hex
from runtime.domain.value_objects.webhooks import EVERYTHING, WebhookSecret, signed_headers

MOST_WEBHOOKS = 50
"""Of one user in one project: each event looks through them."""


@dataclass(frozen=True, slots=True)
class Revealed:
    webhook: Webhook
    secret: WebhookSecret | None
    """None: the caller has it."""


@dataclass(frozen=True, slots=True)
class Trial:
    delivered: bool
    duration_ms: float
    status_code: int | None = None
    error: str | None = None
    response: str | None = None


@dataclass(frozen=True)
class WebhookHandler:
    """What the handlers below share."""

    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    secrets: WebhookSecrets
    sender: WebhookSender


@dataclass(frozen=True)
class CreateWebhookHandler(WebhookHandler):
    async def __call__(self, command: CreateWebhook) -> Revealed:
        """Raises Forbidden, InvalidValue, EgressRefused, AgentNotFound, TooManyWebhooks."""
        actor, at = command.actor, self.now()
        _may_manage(actor)
        self.sender.check(command.url)
        made = WebhookSecret.new() if command.secret is None else None
        id = new_webhook_id()
        webhook = Webhook(
            id=id,
            project_id=actor.project_id,
            owner_id=actor.user_id,
            url=command.url,
            types=command.types,
            secret_sealed=self.secrets.seal(
                actor.project_id, id, made or WebhookSecret(command.secret or "")
            ),
            created_at=at,
            updated_at=at,
        )
        async with self.uow(actor.scope) as work:
            await _set(work, webhook, command.fields, actor)
            _may_hear(actor, webhook)
            if await work.webhooks.count_own() >= MOST_WEBHOOKS:
                raise TooManyWebhooks(MOST_WEBHOOKS)
            await work.webhooks.add(webhook)
            await _record(work, "create_webhook", webhook, actor, at)
            await work.commit()
        return Revealed(webhook, made)


@dataclass(frozen=True)
class ChangeWebhookHandler(WebhookHandler):
    async def __call__(self, command: ChangeWebhook) -> Webhook:
        """Raises Forbidden, WebhookNotFound, EgressRefused, AgentNotFound, ConcurrentChange."""
        actor, at, fields = command.actor, self.now(), command.fields
        _may_manage(actor)
        if "url" in fields:
            self.sender.check(fields["url"])
        async with self.uow(actor.scope) as work:
            webhook = await work.webhooks.get(command.id)
            await _set(work, webhook, fields, actor)
            _may_hear(actor, webhook)
            webhook.updated_at = at
            await work.webhooks.save(webhook)
            detail = {"changed": sorted(fields)}
            await _record(work, "change_webhook", webhook, actor, at, detail)
            await work.commit()
        return webhook


@dataclass(frozen=True)
class DeleteWebhookHandler(WebhookHandler):
    async def __call__(self, command: DeleteWebhook) -> Webhook:
        """Raises Forbidden, WebhookNotFound, ConcurrentChange."""
        actor, at = command.actor, self.now()
        _may_manage(actor)
        async with self.uow(actor.scope) as work:
            webhook = await work.webhooks.get(command.id)
            await work.webhooks.remove(webhook)
            await _record(work, "delete_webhook", webhook, actor, at)
            await work.commit()
        return webhook


@dataclass(frozen=True)
class RotateWebhookSecretHandler(WebhookHandler):
    async def __call__(self, command: RotateWebhookSecret) -> Revealed:
        """Raises Forbidden, WebhookNotFound, InvalidValue, ConcurrentChange."""
        actor, at = command.actor, self.now()
        _may_manage(actor)
        made = WebhookSecret.new() if command.secret is None else None
        secret = made or WebhookSecret(command.secret or "")
        async with self.uow(actor.scope) as work:
            webhook = await work.webhooks.get(command.id)
            webhook.rotate(self.secrets.seal(webhook.project_id, webhook.id, secret), at)
            await work.webhooks.save(webhook)
            await _record(work, "rotate_webhook_secret", webhook, actor, at)
            await work.commit()
        return Revealed(webhook, made)


@dataclass(frozen=True)
class TryWebhookHandler(WebhookHandler):
    async def __call__(self, command: TryWebhook) -> Trial:
        """One message, though the endpoint is disabled. What it does wrong is in the answer.

        Raises Forbidden, WebhookNotFound, SecretUnreadable.
        """
        _may_manage(command.actor)
        async with self.uow(command.actor.scope) as work:
            webhook = await work.webhooks.get(command.id)
        at = self.now()
        body = trial_payload(webhook.id, at).encode()
        signers = self.secrets.of(webhook, at)
        headers = signed_headers(signers, f"whd_{uuid7_hex()}", at, body)
        began = monotonic()
        try:
            answered = await self.sender.send(webhook.url, body, headers)
        except (EgressRefused, UpstreamFailed, UpstreamTimeout) as error:
            return Trial(False, _since(began), error=str(error))
        return _judged(answered, _since(began))


@dataclass(frozen=True)
class RetryDeliveryHandler(WebhookHandler):
    async def __call__(self, command: RetryDelivery) -> Delivery:
        """Raises Forbidden, WebhookNotFound, DeliveryNotFound."""
        _may_manage(command.actor)
        async with self.uow(command.actor.scope) as work:
            webhook = await work.webhooks.get(command.webhook)
            delivery = await work.webhooks.try_again(webhook.id, command.id, self.now())
            await work.commit()
        return delivery


def _may_manage(actor: Principal) -> None:
    """Raises Forbidden."""
    actor.require_scope(KeyScope.WEBHOOKS)
    actor.require(Role.EDITOR, "manage webhooks")


def _may_hear(actor: Principal, webhook: Webhook) -> None:
    """Nobody is told of what they may not read. Raises Forbidden."""
    if _any_of(webhook.types, "run."):
        actor.require_scope(KeyScope.RUNS_READ)
    if _any_of(webhook.types, "agent."):
        actor.require_scope(KeyScope.AGENTS_READ)
    if webhook.scope is WebhookScope.PROJECT:
        actor.require(Role.ADMIN, "be told of everybody's runs and agents")


def _any_of(types: Collection[str], kind: str) -> bool:
    return EVERYTHING in types or any(each.startswith(kind) for each in types)


async def _set(work: UnitOfWork, webhook: Webhook, fields: WebhookFields, actor: Principal) -> None:
    """Raises AgentNotFound."""
    webhook.url = fields.get("url", webhook.url)
    webhook.types = fields.get("types", webhook.types)
    webhook.scope = fields.get("scope", webhook.scope)
    webhook.description = fields.get("description", webhook.description)
    webhook.include_output = fields.get("include_output", webhook.include_output)
    if "agent" in fields:
        webhook.line_id = await _line(work, fields["agent"], actor)
    if "enabled" in fields:
        if fields["enabled"]:
            webhook.enable()
        else:
            webhook.enabled = False


async def _line(work: UnitOfWork, agent: str | None, actor: Principal) -> LineId | None:
    if agent is None:
        return None
    actor.require_scope(KeyScope.AGENTS_READ)
    return (await one_agent(work, agent)).line_id


async def _record(
    work: UnitOfWork,
    action: str,
    webhook: Webhook,
    actor: Principal,
    at: datetime,
    detail: Mapping[str, object] | None = None,
) -> None:
    said = {"events": webhook.ordered_types, "scope": webhook.scope, **(detail or {})}
    await work.audit.add(rule_entry(action, webhook.id, webhook.owner_id, actor, at, said))


def _judged(answered: Answered, duration_ms: float) -> Trial:
    good = 200 <= answered.status < 300
    return Trial(
        good, duration_ms, answered.status, None if good else fault(answered), answered.text
    )


def _since(began: float) -> float:
    return (monotonic() - began) * 1_000
