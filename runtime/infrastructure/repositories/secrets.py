"""Stored secrets under a new key, row by row, beside running replicas."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Column, Row, Text, bindparam, select, tuple_, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.application.services.config_secrets import Place
from runtime.application.services.provider_keys import key_place
from runtime.application.services.webhooks.secrets import callback_place, webhook_place
from runtime.domain.errors import SecretUnreadable
from runtime.domain.value_objects.secrets import SealedSecret
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.agents import agents
from runtime.infrastructure.repositories.durable_runs import durable_runs
from runtime.infrastructure.repositories.providers import providers
from runtime.infrastructure.repositories.webhook_deliveries import webhook_deliveries
from runtime.infrastructure.repositories.webhooks import webhooks
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
_KEYS = (
    select(
        *(providers.c[name] for name in ("project_id", "id", "type", "base_url")),
        providers.c.key_sealed,
        providers.c.key_mark,
    )
    .where(providers.c.key_sealed.is_not(None))
    .order_by(providers.c.project_id, providers.c.id)
    .limit(_AT_ONCE)
)
_REPLACE_KEY = update(providers).where(
    providers.c.project_id == bindparam("project"),
    providers.c.id == bindparam("of"),
    providers.c.key_sealed == bindparam("before"),
)

_NEXT = providers.c.revision + 1
"""So that nobody who read the row before writes the old value back."""
_CALLBACK = type_coerce(durable_runs.c.callback, Text)


@dataclass(frozen=True)
class _Column:
    """Of sealed texts, in a table with `id` and `project_id`."""

    column: Column[Any]
    place: Callable[[Row[Any]], str]
    versioned: bool = False
    """As `_NEXT`."""


def _of_webhook(row: Row[Any]) -> str:
    return webhook_place(row.project_id, row.id)


def _of_delivery(row: Row[Any]) -> str:
    return callback_place(row.project_id, row.run_id)


_COLUMNS = (
    _Column(webhooks.c.secret_sealed, _of_webhook, versioned=True),
    _Column(webhooks.c.previous_sealed, _of_webhook, versioned=True),
    _Column(webhook_deliveries.c.secret_sealed, _of_delivery),
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

    Neither an agent's revision nor its content hash changes; a provider's revision does. A row
    that somebody changes meanwhile is read again. Raises DatabaseUnavailable.
    """
    done = Rotated()
    await _rotate_agents(engine, box, done)
    await _rotate_providers(engine, box, done)
    for each in _COLUMNS:
        await _rotate_column(engine, box, done, each)
    await _rotate_callbacks(engine, box, done)
    return done


async def _rotate_agents(engine: AsyncEngine, box: SecretBox, done: Rotated) -> None:
    after = ""
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
            return


async def _rotate_providers(engine: AsyncEngine, box: SecretBox, done: Rotated) -> None:
    """A key that somebody replaces meanwhile is under the current one already."""
    after = ("", "")
    while True:
        with refusals():
            async with engine.connect() as connection:
                position = tuple_(providers.c.project_id, providers.c.id)
                rows = (await connection.execute(_KEYS.where(position > after))).all()
                for row in rows:
                    key = SealedSecret(row.key_sealed, row.key_mark)
                    at = key_place(row.project_id, row.id, row.type, row.base_url, key.mark)
                    renewed = _under(box, at, key, done)
                    if renewed is not key:
                        of = {"project": row.project_id, "of": row.id, "before": key.sealed}
                        await connection.execute(
                            _REPLACE_KEY.values(key_sealed=renewed.sealed, revision=_NEXT), of
                        )
                await connection.commit()
        if not rows:
            return
        after = (rows[-1].project_id, rows[-1].id)


async def _rotate_column(
    engine: AsyncEngine, box: SecretBox, done: Rotated, sealed: _Column
) -> None:
    """What somebody replaces meanwhile is under the current key already."""
    column, table, after = sealed.column, sealed.column.table, ""
    while True:
        query = select(table).where(table.c.id > after, column != "").order_by(table.c.id)
        with refusals():
            async with engine.connect() as connection:
                rows = (await connection.execute(query.limit(_AT_ONCE))).all()
                for row in rows:
                    kept = SealedSecret(row._mapping[column], "")
                    renewed = _under(box, sealed.place(row), kept, done)
                    if renewed is not kept:
                        values: dict[str, object] = {column.name: renewed.sealed}
                        if sealed.versioned:
                            values["revision"] = table.c.revision + 1
                        same = update(table).where(table.c.id == row.id, column == kept.sealed)
                        await connection.execute(same.values(values))
                await connection.commit()
        if not rows:
            return
        after = rows[-1].id


async def _rotate_callbacks(engine: AsyncEngine, box: SecretBox, done: Rotated) -> None:
    """Of the runs that have not ended; the others have left theirs in the outbox."""
    columns, after = durable_runs.c, ""
    while True:
        query = select(columns.id, columns.project_id, columns.callback).where(
            columns.id > after, columns.ended_at.is_(None), _CALLBACK != "null"
        )
        with refusals():
            async with engine.connect() as connection:
                rows = (await connection.execute(query.order_by(columns.id).limit(_AT_ONCE))).all()
                for row in rows:
                    kept = SealedSecret(row.callback["secret_sealed"], "")
                    if not kept.sealed:
                        continue
                    place = callback_place(row.project_id, row.id)
                    renewed = _under(box, place, kept, done)
                    if renewed is not kept:
                        callback = {**row.callback, "secret_sealed": renewed.sealed}
                        one = update(durable_runs).where(columns.id == row.id)
                        await connection.execute(one.values(callback=callback))
                await connection.commit()
        if not rows:
            return
        after = rows[-1].id


async def _renewed(
    connection: AsyncConnection, row: Row[Any], box: SecretBox, done: Rotated
) -> bool:
    """Whether the row was still as it was read."""
    place = Place(row.project_id, row.id)
    found = Rotated()
    secrets = {}
    for pointer, values in json.loads(row.stored).items():
        kept = SealedSecret(**values)
        secrets[pointer] = asdict(_under(box, place.of(pointer, kept.mark), kept, found))
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


def _under(box: SecretBox, at: str, kept: SealedSecret, found: Rotated) -> SealedSecret:
    """`kept` under the current key, if it can be."""
    if box.is_current(kept.sealed):
        found.current += 1
        return kept
    try:
        renewed = SealedSecret(box.seal(box.open(kept.sealed, at), at), kept.mark)
    except SecretUnreadable:
        found.unreadable += 1
        return kept
    found.renewed += 1
    return renewed
