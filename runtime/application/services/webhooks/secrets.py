import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.domain.entities.webhooks import Webhook
from runtime.domain.repositories.webhooks import Claimed
from runtime.domain.services.secrets import SecretVault
from runtime.domain.value_objects.ids import ProjectId, RunId, WebhookId
from runtime.domain.value_objects.webhooks import WebhookSecret


def webhook_place(project: ProjectId, id: WebhookId) -> str:
    return json.dumps(["webhooks", project, id])


def callback_place(project: ProjectId, run: RunId) -> str:
    return json.dumps(["callbacks", project, run])


@dataclass(frozen=True)
class WebhookSecrets:
    vault: SecretVault

    def seal(self, project: ProjectId, id: WebhookId, secret: WebhookSecret) -> str:
        return self.vault.seal(secret.text, webhook_place(project, id))

    def seal_callback(self, project: ProjectId, run: RunId, secret: str | None) -> str:
        """For `Callback.secret_sealed`. Without a secret it is empty, and what is sent has no
        signature. Raises InvalidValue."""
        if secret is None:
            return ""
        return self.vault.seal(WebhookSecret(secret).text, callback_place(project, run))

    def of(self, webhook: Webhook, at: datetime) -> Sequence[WebhookSecret]:
        """Those that sign then. Raises SecretUnreadable."""
        place = webhook_place(webhook.project_id, webhook.id)
        return [WebhookSecret(self.vault.open(each, place)) for each in webhook.sealed_at(at)]

    def signers(self, claimed: Claimed, at: datetime) -> Sequence[WebhookSecret]:
        """As `of`."""
        if claimed.webhook is not None:
            return self.of(claimed.webhook, at)
        if not claimed.callback_sealed or claimed.run_id is None:
            return []
        place = callback_place(claimed.project_id, claimed.run_id)
        return [WebhookSecret(self.vault.open(claimed.callback_sealed, place))]
