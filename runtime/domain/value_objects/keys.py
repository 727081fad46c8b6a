"""API keys as text: `ar_`, 12 characters that find the key, `_`, 43 that prove it."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

_FORM = re.compile(r"ar_([A-Za-z0-9_-]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class KeyText:
    prefix: str
    text: str = field(repr=False)
    """The whole key. Shown once, stored nowhere."""

    @classmethod
    def new(cls) -> "KeyText":
        prefix = secrets.token_urlsafe(9)
        return cls(prefix, f"ar_{prefix}_{secrets.token_urlsafe(32)}")

    @classmethod
    def parse(cls, text: str) -> "KeyText | None":
        match = _FORM.fullmatch(text)
        return cls(match[1], text) if match else None

    def digest(self, secret: bytes) -> str:
        """HMAC-SHA256, in hex, under the runtime's secret key."""
        return hmac.new(secret, b"api-key:" + self.text.encode(), hashlib.sha256).hexdigest()

    def matches(self, digest: str, secret: bytes) -> bool:
        return hmac.compare_digest(self.digest(secret), digest)
