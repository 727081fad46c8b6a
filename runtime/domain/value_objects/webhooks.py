"""Webhooks as Standard Webhooks has them: events, secrets, signatures, when to try again."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.ids import LineId, ProjectId, RunId, UserId, uuid7_hex

SECRET_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
_NEW_SECRET_BYTES = 32
MAX_OUTPUT_BYTES = 65_536
MAX_EXCERPT = 500
"""Characters that are kept of what a receiver answers."""
EVERYTHING = "*"
RETRY_AFTER_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The waits between the tries: one more try than there are waits."""
LONGEST_WAIT_S = 86_400
JITTER = 0.1
"""Of a wait, at most, on top of it."""
FAILING_FOR = timedelta(days=5)
"""Of an endpoint that answers nothing well: then it is disabled."""
NOTHING_WELL = f"For {FAILING_FOR.days} days nothing was delivered to it."
OLD_SECRET_LASTS = timedelta(hours=24)


class EventType(StrEnum):
    RUN_COMPLETED = "run.completed"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"
    RUN_WAITING = "run.waiting"
    AGENT_SUBMITTED = "agent.submitted"
    AGENT_PUBLISHED = "agent.published"
    AGENT_REVOKED = "agent.revoked"


TEST_EVENT = "webhook.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCallback:
    """Where the run itself asked to be told."""

    url: str
    secret_sealed: str
    run: RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """What happened, once; each endpoint that wants it gets a delivery."""

    id: str = field(default_factory=uuid7_hex)
    type: EventType
    at: datetime
    project_id: ProjectId
    owner_id: UserId
    """Whose run or agent it is."""
    line_id: LineId
    body: str
    """JSON in ASCII, as it is signed and sent."""
    full_body: str
    """The same with the output, for endpoints that include it."""
    callback: RunCallback | None = None


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """`whsec_` and the Base64 of 24 to 64 bytes."""

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        """Raises InvalidValue."""
        if len(self._key()) not in _SECRET_BYTES:
            raise _malformed()

    @classmethod
    def new(cls) -> "WebhookSecret":
        key = base64.b64encode(secrets.token_bytes(_NEW_SECRET_BYTES)).decode()
        return cls(SECRET_PREFIX + key)

    def sign(self, id: str, timestamp: int, body: bytes) -> str:
        content = b"%s.%d.%s" % (id.encode(), timestamp, body)
        digest = hmac.digest(self._key(), content, hashlib.sha256)
        return f"v1,{base64.b64encode(digest).decode()}"

    def _key(self) -> bytes:
        if not self.text.startswith(SECRET_PREFIX):
            raise _malformed()
        try:
            return base64.b64decode(self.text.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise _malformed() from None


def signed_headers(
    signers: Iterable[WebhookSecret], id: str, at: datetime, body: bytes
) -> Mapping[str, str]:
    """Of a message that is sent at `at`: one signature for each secret, none without any."""
    timestamp = int(at.timestamp())
    signatures = [each.sign(id, timestamp, body) for each in signers]
    headers = {"webhook-id": id, "webhook-timestamp": str(timestamp)}
    return headers | ({"webhook-signature": " ".join(signatures)} if signatures else {})


def next_try(
    attempts: int, at: datetime, *, asked_s: float | None, chance: float
) -> datetime | None:
    """After so many tries have failed; None: it is not tried again.

    `asked_s` is what the receiver's Retry-After says, `chance` a number from 0 to 1.
    """
    if attempts > len(RETRY_AFTER_S):
        return None
    wait_s = RETRY_AFTER_S[attempts - 1] * (1 + JITTER * chance)
    return at + timedelta(seconds=max(wait_s, min(asked_s or 0, LONGEST_WAIT_S)))


def _malformed() -> InvalidValue:
    return InvalidValue(
        "A webhook's secret is 'whsec_' and the Base64 of 24 to 64 random bytes; leave it out to "
        "get one.",
        param="secret",
    )
