"""Ports of authentication: from what a caller carries to who they are."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runtime.domain.value_objects.identity import Principal


class Authenticator(Protocol):
    async def authenticate(self, carried: Collection[str], *, from_here: bool) -> Principal:
        """Who sent these credentials, each one different; `from_here`: over loopback.

        Raises Unauthenticated, DatabaseUnavailable.
        """


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    principal: Principal
    expires_at: datetime


class TokenVerifier(Protocol):
    async def verify(self, token: str) -> VerifiedToken:
        """A JWT as its principal, claims included. Raises Unauthenticated."""
