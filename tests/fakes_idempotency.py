from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from runtime.domain.repositories.idempotency import IdempotencyStore, Occupied
from runtime.domain.value_objects.idempotency import Claim, IdempotencyKey


@dataclass
class _Row:
    claim: Claim
    until: datetime
    done: bool = False
    answer: str | None = None


@dataclass
class MemoryIdempotencyStore(IdempotencyStore):
    rows: dict[IdempotencyKey, _Row] = field(default_factory=dict)

    async def claim(self, claim: Claim, *, now: datetime, until: datetime) -> Occupied | None:
        row = self.rows.get(claim.key)
        if row is not None and row.until > now:
            return Occupied(row.claim.fingerprint, row.done, row.answer)
        self.rows[claim.key] = _Row(claim, until)
        return None

    async def renew(self, tokens: Collection[str], *, until: datetime) -> None:
        for row in self.rows.values():
            if row.claim.token in tokens and not row.done:
                row.until = until

    async def keep(self, claim: Claim, answer: str | None, *, until: datetime) -> bool:
        if self._is_held(claim):
            self.rows[claim.key] = _Row(claim, until, done=True, answer=answer)
            return True
        return False

    async def release(self, claim: Claim) -> None:
        if self._is_held(claim):
            del self.rows[claim.key]

    async def prune(self, *, now: datetime, limit: int) -> int:
        over = [key for key, row in self.rows.items() if row.until <= now][:limit]
        for key in over:
            del self.rows[key]
        return len(over)

    def _is_held(self, claim: Claim) -> bool:
        row = self.rows.get(claim.key)
        return row is not None and row.claim.token == claim.token and not row.done
