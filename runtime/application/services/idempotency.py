import asyncio
import base64
import json
import logging
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from runtime.domain.errors import (
    AnswerNotKept,
    DatabaseUnavailable,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    SecretUnreadable,
)
from runtime.domain.repositories.idempotency import IdempotencyStore, Occupied
from runtime.domain.services.secrets import SecretVault
from runtime.domain.value_objects.idempotency import Claim, IdempotencyKey, KeptAnswer
from runtime.domain.value_objects.ids import uuid7_hex

logger = logging.getLogger(__name__)

RENEWALS = 3
"""Chances that a claim has to be renewed before its lease is over."""
STORED_WITHIN_S = 5.0
"""The end of an answer waits no longer for it to be kept."""
PRUNED_AT_ONCE = 500


class IdempotentRequests:
    """Sees to it that the request of a key is carried out once, and answered again and again.

    Who holds a claim ends it, by `keep` or by `release`; one task renews the leases of all of them
    until then. Those of a process that was killed run out.
    """

    def __init__(
        self,
        store: IdempotencyStore,
        vault: SecretVault,
        now: Callable[[], datetime],
        *,
        retention_s: float,
        lease_s: float,
    ) -> None:
        self._store = store
        self._vault = vault
        self._now = now
        self._retention = timedelta(seconds=retention_s)
        self._lease = timedelta(seconds=lease_s)
        self._held: set[str] = set()
        self._renewing: asyncio.Task[None] | None = None

    async def claim(self, key: IdempotencyKey, fingerprint: str) -> Claim | KeptAnswer:
        """The right to carry the request out, or the answer that it had.

        Raises IdempotencyKeyInUse, IdempotencyKeyReused, AnswerNotKept, DatabaseUnavailable.
        """
        claim = Claim(key, fingerprint, uuid7_hex())
        now = self._now()
        occupied = await self._store.claim(claim, now=now, until=now + self._lease)
        if occupied is None:
            self._held.add(claim.token)
            return claim
        if occupied.fingerprint != fingerprint:
            raise IdempotencyKeyReused
        if not occupied.done:
            raise IdempotencyKeyInUse
        return await self._opened(claim, occupied)

    async def keep(self, claim: Claim, answer: KeptAnswer | None) -> None:
        """End a claim whose request was carried out; None: the answer is too large to be kept.

        Raises nothing: the caller has an answer to deliver, stored or not.
        """
        try:
            async with asyncio.timeout(STORED_WITHIN_S):
                sealed = await asyncio.to_thread(self._sealed, claim, answer) if answer else None
                until = self._now() + self._retention
                kept = await self._store.keep(claim, sealed, until=until)
            if not kept:
                logger.error("an answer came after its Idempotency-Key's lease; it is not kept")
        except (DatabaseUnavailable, TimeoutError):
            logger.error("the answer to an Idempotency-Key could not be kept: no database")
        # Whatever it is, the client must not pay for it with an answer that is there.
        except Exception:
            logger.exception("the answer to an Idempotency-Key could not be kept")
        finally:
            self._held.discard(claim.token)

    async def release(self, claim: Claim) -> None:
        """Let the next one with this key carry the request out."""
        self._held.discard(claim.token)
        try:
            await self._store.release(claim)
        except DatabaseUnavailable:
            logger.warning("an Idempotency-Key stays taken for %s", self._lease)

    async def renew(self) -> None:
        """Raises DatabaseUnavailable."""
        if self._held:
            await self._store.renew(tuple(self._held), until=self._now() + self._lease)

    async def prune(self) -> None:
        """Remove what is older than answers get. Raises DatabaseUnavailable."""
        while await self._store.prune(now=self._now(), limit=PRUNED_AT_ONCE) == PRUNED_AT_ONCE:
            pass

    def start(self) -> None:
        self._renewing = asyncio.create_task(self._keep_renewing(), name="idempotency-leases")

    async def stop(self) -> None:
        if self._renewing:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / RENEWALS)
            try:
                await self.renew()
            except DatabaseUnavailable:
                logger.warning("the leases of Idempotency-Keys wait for the database")
            # One bad round must not end the leases of all requests to come.
            except Exception:
                logger.exception("the leases of Idempotency-Keys could not be renewed")

    async def _opened(self, claim: Claim, occupied: Occupied) -> KeptAnswer:
        if occupied.answer is None:
            raise AnswerNotKept("its answer was too large to be kept")
        try:
            return await asyncio.to_thread(self._unsealed, claim, occupied.answer)
        except SecretUnreadable as error:
            raise AnswerNotKept("its answer was sealed with a key that is gone") from error

    def _sealed(self, claim: Claim, answer: KeptAnswer) -> str:
        # Frames of a stream repeat themselves: compressed they take a twentieth.
        body = base64.b64encode(zlib.compress(answer.body, 1)).decode()
        return self._vault.seal(json.dumps([answer.status, [*answer.headers], body]), _place(claim))

    def _unsealed(self, claim: Claim, sealed: str) -> KeptAnswer:
        status, headers, body = json.loads(self._vault.open(sealed, _place(claim)))
        pairs = [(name, value) for name, value in headers]
        return KeptAnswer(status, pairs, zlib.decompress(base64.b64decode(body)))


def _place(claim: Claim) -> str:
    """What a sealed answer is bound to: it opens for no other caller, key or request."""
    key = claim.key
    return json.dumps(
        ["idempotency", key.project_id, key.owner_id, key.text, claim.fingerprint],
    )
