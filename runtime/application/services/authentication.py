import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hmac import compare_digest
from time import monotonic

from runtime.application.services.single_flight import SingleFlight
from runtime.domain.entities.keys import ApiKey
from runtime.domain.errors import Unauthenticated
from runtime.domain.events.base import Event
from runtime.domain.repositories.keys import KeyRing
from runtime.domain.services.identity import Authenticator, TokenVerifier
from runtime.domain.value_objects.identity import LOCAL_ADMIN, PLATFORM, Principal
from runtime.domain.value_objects.ids import KeyId
from runtime.domain.value_objects.keys import KeyText

FRESH_S = 3.0
"""How long what was found out is believed: another replica's revocation is seen by then, with
something to spare of the 5 s that are promised. Our own is seen at once."""
MOST_KEPT = 4_096
USED_EVERY = timedelta(minutes=10)
"""How exactly a key's last use is known."""

INVALID = "The token is not valid."
NEEDED = (
    "A token is needed: an API key, a JWT or the runtime's token, sent as 'Authorization: "
    "Bearer' or 'X-Runtime-Token'."
)


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    until: float
    expires_at: datetime | None


class CredentialAuthenticator(Authenticator):
    """Tokens of the platform, API keys, JWTs; and while there is none of these, the local admin.

    Keys are hashed under the first of `secrets`; the others are earlier ones, still accepted.
    What is remembered is remembered under the hash of the whole credential, and only success is.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        keys: KeyRing,
        secrets: Sequence[bytes],
        jwt: TokenVerifier | None,
        now: Callable[[], datetime],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`secrets`: the runtime's own key, then those that it replaces."""
        self._tokens = [token.encode() for token in tokens]
        self._keys = keys
        self._secrets = secrets
        self._jwt = jwt
        self._now = now
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._changes = 0
        self._any_key = (False, 0.0)
        self._finding: SingleFlight[tuple[int, str], ApiKey | None] = SingleFlight()
        self._counting: SingleFlight[int, bool] = SingleFlight()
        self._uses: dict[KeyId, datetime] = {}

    async def authenticate(self, carried: Collection[str], *, from_here: bool) -> Principal:
        if len(carried) > 1:
            raise Unauthenticated("Two different credentials were sent; send one.")
        for credential in carried:
            principal = await self._identified(credential)
            if principal is not None:
                return principal
        if from_here and not await self._any_credential():
            return LOCAL_ADMIN
        raise Unauthenticated(INVALID if carried else NEEDED)

    async def forget(self, _: Event) -> None:
        """Something about keys changed."""
        self._changes += 1
        self._known.clear()
        self._any_key = (False, 0.0)

    async def write_uses(self) -> None:
        """Raises DatabaseUnavailable; what was not written is next time."""
        uses, self._uses = self._uses, {}
        if uses:
            try:
                await self._keys.note_uses(uses)
            except BaseException:
                self._uses = {**uses, **self._uses}
                raise

    async def _identified(self, credential: str) -> Principal | None:
        """None for what is in no form that is known. Raises Unauthenticated."""
        encoded = credential.encode()
        # Every token is compared, so that the time tells nothing about which one matched.
        if any([compare_digest(encoded, token) for token in self._tokens]):
            return PLATFORM
        digest = hashlib.sha256(encoded).digest()
        known = self._known.get(digest)
        if known and known.until > self._clock() and _before(self._now(), known.expires_at):
            return known.principal
        since, changes = self._clock(), self._changes
        if key := KeyText.parse(credential):
            principal, expires_at = await self._by_key(key)
        elif self._jwt:
            verified = await self._jwt.verify(credential)
            principal, expires_at = verified.principal, verified.expires_at
        else:
            return None
        # A revocation that came while we read may not be in what we read.
        if changes == self._changes:
            self._remember(digest, _Known(principal, since + FRESH_S, expires_at))
        return principal

    async def _by_key(self, text: KeyText) -> tuple[Principal, datetime | None]:
        # With the changes: what is being read may be from before a revocation.
        flight = (self._changes, text.prefix)
        key = await self._finding(flight, partial(self._keys.find, text.prefix))
        now = self._now()
        # Compared for an unknown prefix too, so that the time does not tell the known ones.
        digest = key.digest if key else ""
        matches = any([text.matches(digest, secret) for secret in self._secrets])
        if key is None or not matches or not key.live_at(now):
            raise Unauthenticated(INVALID)
        if key.last_used_at is None or key.last_used_at < now - USED_EVERY:
            self._uses[key.id] = now
        return key.principal, key.expires_at

    async def _any_credential(self) -> bool:
        if self._tokens or self._jwt:
            return True
        found, until = self._any_key
        since = self._clock()
        if until <= since:
            changes = self._changes
            found = await self._counting(changes, partial(self._keys.any_live, self._now()))
            if changes == self._changes:
                self._any_key = (found, since + FRESH_S)
        return found

    def _remember(self, digest: bytes, known: _Known) -> None:
        self._known[digest] = known
        self._known.move_to_end(digest)
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)


def _before(now: datetime, end: datetime | None) -> bool:
    return end is None or now < end
