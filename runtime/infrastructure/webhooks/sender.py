from collections.abc import Mapping

from runtime.domain.services.webhooks import Answered, WebhookSender
from runtime.domain.value_objects.webhooks import MAX_EXCERPT
from runtime.infrastructure.egress import EgressClient
from runtime.infrastructure.providers.faults import retry_after_s
from runtime.infrastructure.redaction import redacted

TIMEOUT_S = 15.0
_MAX_ANSWER_BYTES = 65_536


class EgressWebhookSender(WebhookSender):
    def __init__(self, client: EgressClient, *, timeout_s: float = TIMEOUT_S) -> None:
        self._client = client
        self._timeout_s = timeout_s

    def check(self, url: str) -> None:
        self._client.endpoint(url)

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        fetched = await self._client.fetch(
            url,
            method="POST",
            headers={"Content-Type": "application/json", **headers},
            body=body,
            max_bytes=_MAX_ANSWER_BYTES,
            cut=True,
            timeout_s=self._timeout_s,
            max_redirects=None,
        )
        asked_s = retry_after_s({"Retry-After": fetched.headers.get("retry-after", "")})
        return Answered(fetched.status, _excerpt(fetched.body), asked_s)


def _excerpt(body: bytes) -> str:
    """As a text that every database can hold."""
    text = body[: 4 * MAX_EXCERPT].decode(errors="replace").replace("\x00", "\ufffd")
    return redacted(text)[:MAX_EXCERPT]
