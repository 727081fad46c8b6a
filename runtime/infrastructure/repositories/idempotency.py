from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Executable,
    Index,
    Insert,
    Row,
    Table,
    Text,
    delete,
    select,
    update,
)
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.repositories.idempotency import IdempotencyStore, Occupied
from runtime.domain.value_objects.idempotency import Claim
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import (
    Key,
    UtcDateTime,
    Values,
    Words,
    insertable,
    metadata,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("owner_id", Key, primary_key=True),
    Column("key", Key, primary_key=True),
    Column("fingerprint", Words, nullable=False),
    Column("token", Key, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("answer", Text),
    # The end of a claim's lease, or of the time that an answer is kept.
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "token"),
    Index(None, "expires_at"),
)
_ROWS = idempotency_keys.c
_MOST_AT_ONCE = 500
"""Tokens in one statement; databases bound its parameters."""


class SqlIdempotencyStore(IdempotencyStore):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(self, claim: Claim, *, now: datetime, until: datetime) -> Occupied | None:
        values = insertable(idempotency_keys, _claimed(claim, until))
        with refusals():
            async with self._engine.begin() as connection:
                if (await connection.execute(_take_if_free(connection, values, now))).rowcount:
                    return None
                query = select(idempotency_keys).where(*_of(claim))
                row: Row[Any] | None = (await connection.execute(query)).first()
        if row is None:  # Let go a moment ago: the next try gets it.
            return Occupied(claim.fingerprint, done=False)
        return Occupied(row.fingerprint, row.done, row.answer)

    async def renew(self, tokens: Collection[str], *, until: datetime) -> None:
        every = sorted(tokens)
        for start in range(0, len(every), _MOST_AT_ONCE):
            some = every[start : start + _MOST_AT_ONCE]
            held = (_ROWS.token.in_(some), _ROWS.done.is_(False))
            await self._write(update(idempotency_keys).where(*held).values(expires_at=until))

    async def keep(self, claim: Claim, answer: str | None, *, until: datetime) -> bool:
        statement = update(idempotency_keys).where(*_of(claim), *_held_by(claim))
        done = await self._write(statement.values(done=True, answer=answer, expires_at=until))
        return done.rowcount == 1

    async def release(self, claim: Claim) -> None:
        await self._write(delete(idempotency_keys).where(*_of(claim), *_held_by(claim)))

    async def prune(self, *, now: datetime, limit: int) -> int:
        over = _ROWS.expires_at <= now
        some = select(_ROWS.token).where(over).limit(limit)
        # Asked twice: between the two a lease may be renewed.
        done = await self._write(delete(idempotency_keys).where(_ROWS.token.in_(some), over))
        return done.rowcount

    async def _write(self, statement: Executable) -> CursorResult[Any]:
        with refusals():
            async with self._engine.begin() as connection:
                return await connection.execute(statement)


def _take_if_free(connection: AsyncConnection, values: Values, now: datetime) -> Insert:
    """One statement, so that of two replicas that find a lease over one gets the key."""
    free = idempotency_keys.c.expires_at <= now
    named = idempotency_keys.primary_key
    options = {"preserve_rowcount": True}
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        lite = sqlite.insert(idempotency_keys).values(values)
        return lite.on_conflict_do_update(
            index_elements=named, set_=values, where=free
        ).execution_options(**options)
    from sqlalchemy.dialects import postgresql

    statement = postgresql.insert(idempotency_keys).values(values)
    return statement.on_conflict_do_update(
        index_elements=named, set_=values, where=free
    ).execution_options(**options)


def _claimed(claim: Claim, until: datetime) -> Values:
    return {
        "project_id": claim.key.project_id,
        "owner_id": claim.key.owner_id,
        "key": claim.key.text,
        "fingerprint": claim.fingerprint,
        "token": claim.token,
        "done": False,
        "answer": None,
        "expires_at": until,
    }


def _of(claim: Claim) -> Iterator[ColumnElement[bool]]:
    yield _ROWS.project_id == claim.key.project_id
    yield _ROWS.owner_id == claim.key.owner_id
    yield _ROWS.key == claim.key.text


def _held_by(claim: Claim) -> Iterator[ColumnElement[bool]]:
    yield _ROWS.token == claim.token
    yield _ROWS.done.is_(False)
