"""Stored secrets under a new key, row by row, beside running replicas."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row, Text, bindparam, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.application.services.config_secrets import Place
from runtime.domain.errors import SecretUnreadable
from runtime.domain.value_objects.secrets import SealedSecret
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.agents import agents
from runtime.infrastructure.secrets import SecretBox

_AT_ONCE = 200

_stored = type_coerce(agents.c.secrets, Text)
_BATCH = (
    select(agents.c.id, agents.c.project_id, _stored.label("stored"))
    .where(agents.c.id > bindparam("after"), _stored.not_in(["{}", "null"]))
    .order_by(agents.c.id)
    .limit(_AT_ONCE)
)
_REPLACE = update(agents).where(
    agents.c.id == bindparam("of"), _stored == bindparam("before", type_=Text)
)


@dataclass(slots=True)
class Rotated:
    renewed: int = 0
    current: int = 0
    """Were under the current key already."""
    unreadable: int = 0
    """No key opens them; they are left as they are."""


async def rotate(engine: AsyncEngine, box: SecretBox) -> Rotated:
    """One transaction for each batch: what is done stays done, and is not done again.

    Neither an agent's revision nor its content hash changes. A row that somebody changes meanwhile
    is read again. Raises DatabaseUnavailable.
    """
    done, after = Rotated(), ""
    while True:
        with refusals():
            async with engine.connect() as connection:
                rows = (await connection.execute(_BATCH, {"after": after})).all()
                for row in rows:
                    if not await _renewed(connection, row, box, done):
                        break
                    after = row.id
                await connection.commit()
        if not rows:
            return done


async def _renewed(
    connection: AsyncConnection, row: Row[Any], box: SecretBox, done: Rotated
) -> bool:
    """Whether the row was still as it was read."""
    place = Place(row.project_id, row.id)
    found = Rotated()
    secrets = {}
    for pointer, values in json.loads(row.stored).items():
        secrets[pointer] = asdict(_under(box, place, pointer, SealedSecret(**values), found))
    if found.renewed:
        changed = await connection.execute(
            _REPLACE.values(secrets=secrets), {"of": row.id, "before": row.stored}
        )
        if not changed.rowcount:
            return False
    done.renewed += found.renewed
    done.current += found.current
    done.unreadable += found.unreadable
    return True


def _under(
    box: SecretBox, place: Place, pointer: str, kept: SealedSecret, found: Rotated
) -> SealedSecret:
    """`kept` under the current key, if it can be."""
    if box.is_current(kept.sealed):
        found.current += 1
        return kept
    at = place.of(pointer, kept.mark)
    try:
        renewed = SealedSecret(box.seal(box.open(kept.sealed, at), at), kept.mark)
    except SecretUnreadable:
        found.unreadable += 1
        return kept
    found.renewed += 1
    return renewed
