from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    Index,
    Row,
    Table,
    UniqueConstraint,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.entities.keys import ApiKey
from runtime.domain.errors import KeyNotFound
from runtime.domain.repositories.keys import ApiKeyRepository, KeyRing
from runtime.domain.value_objects.identity import KeyScope, Role
from runtime.domain.value_objects.ids import KeyId, ProjectId, UserId
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    metadata,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Key, primary_key=True),
    Column("prefix", Key, nullable=False),
    Column("digest", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("roles", Json, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Key, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    UniqueConstraint("prefix"),
    Index(None, "project_id", "created_at", "id"),
)
_CURSORS = Cursors("keys")


class SqlApiKeyRepository(SqlRepository, ApiKeyRepository):
    async def add(self, key: ApiKey) -> None:
        if not await self._insert(api_keys, _values(key)):
            raise ValueError(f"key {key.id} was written before")
        self._seen.append(key)

    async def get(self, id: KeyId) -> ApiKey:
        query = select(api_keys).where(*self._visible(api_keys), api_keys.c.id == id)
        row = (await self._execute(query)).first()
        if row is None:
            raise KeyNotFound(id)
        return _to_key(row)

    async def save(self, key: ApiKey) -> None:
        first = func.coalesce(api_keys.c.revoked_at, key.revoked_at)
        statement = update(api_keys).where(*self._visible(api_keys), api_keys.c.id == key.id)
        done = await self._execute(statement.values(revoked_at=first))
        if done.rowcount != 1:
            raise KeyNotFound(key.id)
        self._seen.append(key)

    async def page(self, *, limit: int, after: str | None) -> Page[ApiKey]:
        query = select(api_keys).where(*self._visible(api_keys))
        query = query.order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc())
        if after is not None:
            position = tuple_(api_keys.c.created_at, api_keys.c.id)
            query = query.where(position < _CURSORS.read(after))
        found = [_to_key(row) for row in await self._execute(query.limit(limit + 1))]
        return _CURSORS.page(found, limit, lambda key: Position(key.created_at, key.id))


class SqlKeyRing(KeyRing):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, prefix: str) -> ApiKey | None:
        with refusals():
            async with self._engine.connect() as connection:
                query = select(api_keys).where(api_keys.c.prefix == prefix)
                row = (await connection.execute(query)).first()
        return None if row is None else _to_key(row)

    async def any_live(self, at: datetime) -> bool:
        expiry = api_keys.c.expires_at
        query = select(api_keys.c.id).where(
            api_keys.c.revoked_at.is_(None), or_(expiry.is_(None), expiry > at)
        )
        with refusals():
            async with self._engine.connect() as connection:
                return (await connection.execute(query.limit(1))).first() is not None

    async def note_uses(self, uses: Mapping[KeyId, datetime]) -> None:
        used = api_keys.c.last_used_at
        with refusals():
            async with self._engine.begin() as connection:
                for id, at in uses.items():
                    older = or_(used.is_(None), used < at)
                    statement = update(api_keys).where(api_keys.c.id == id, older)
                    await connection.execute(statement.values(last_used_at=at))


def _values(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "prefix": key.prefix,
        "digest": key.digest,
        "name": key.name,
        "project_id": key.project_id,
        "owner_id": key.owner_id,
        "roles": sorted(key.roles),
        "scopes": None if key.scopes is None else sorted(key.scopes),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }


def _to_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=KeyId(row.id),
        prefix=row.prefix,
        digest=row.digest,
        name=row.name,
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        roles=frozenset(map(Role, row.roles)),
        scopes=None if row.scopes is None else frozenset(map(KeyScope, row.scopes)),
        created_at=row.created_at,
        created_by=UserId(row.created_by),
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
