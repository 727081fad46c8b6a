from dataclasses import dataclass, field
from typing import TypedDict

from runtime.domain.entities.webhooks import WebhookScope
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import WebhookId


class WebhookFields(TypedDict, total=False):
    """Of an endpoint; what is left out stays as it is."""

    url: str
    types: frozenset[str]
    agent: str | None
    """A reference; None: of every agent."""
    scope: WebhookScope
    description: str
    enabled: bool
    include_output: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateWebhook:
    actor: Principal
    url: str
    types: frozenset[str]
    fields: WebhookFields
    secret: str | None = field(default=None, repr=False)
    """None: one is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeWebhook:
    actor: Principal
    id: WebhookId
    fields: WebhookFields


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteWebhook:
    actor: Principal
    id: WebhookId


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateWebhookSecret:
    actor: Principal
    id: WebhookId
    secret: str | None = field(default=None, repr=False)
    """None: one is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TryWebhook:
    actor: Principal
    id: WebhookId


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDelivery:
    actor: Principal
    webhook: WebhookId
    id: str
