"""Ids of durable runs, so that a request which comes again orders nothing twice."""

from contextvars import ContextVar
from datetime import datetime, timedelta

from runtime.domain.value_objects.ids import RunId, new_run_id, uuid7_of

REQUEST: ContextVar[bytes | None] = ContextVar("request", default=None)
"""A digest of what is being carried out under an `Idempotency-Key`: of the caller, the key and the
request. It orders one run at the most."""


def order_id(at: datetime) -> RunId:
    """The same each time that a request is carried out on one day; a new one without a key."""
    digest = REQUEST.get()
    return new_run_id() if digest is None else _on(at, digest)


def earlier_id(at: datetime) -> RunId | None:
    """Of the same request, had it come the day before."""
    digest = REQUEST.get()
    return None if digest is None else _on(at - timedelta(days=1), digest)


def _on(at: datetime, digest: bytes) -> RunId:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return RunId(f"run_{uuid7_of(midnight, int.from_bytes(digest))}")
