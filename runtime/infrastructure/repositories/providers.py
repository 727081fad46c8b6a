from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Row,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.entities.providers import Provider, ProviderMark, ProviderModel
from runtime.domain.errors import ConcurrentChange, ProviderExists, ProviderNotFound
from runtime.domain.repositories.providers import ProviderBook, ProviderRepository
from runtime.domain.value_objects.agents import AgentStatus
from runtime.domain.value_objects.ids import ProjectId, ProviderId, UserId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.providers import (
    Capabilities,
    EnvironmentKey,
    Fallback,
    Routing,
    Tuning,
    names,
)
from runtime.domain.value_objects.secrets import SealedSecret
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.agents import agents
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    insertable,
    metadata,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position

MOST_USERS = 10
providers = Table(
    "providers",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("owner_id", Key, nullable=False),
    Column("type", Words, nullable=False),
    Column("base_url", Words),
    Column("key_variable", Words),
    Column("key_sealed", Words),
    Column("key_mark", Words),
    Column("default_model", Words),
    Column("default_embedding_model", Words),
    Column("formats", Json, nullable=False),
    Column("options", Json, nullable=False),
    Column("tuning", Json, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
provider_models = Table(
    "provider_models",
    metadata,
    Column("project_id", Key, primary_key=True),
    Column("provider_id", Key, primary_key=True),
    Column("name", Key, primary_key=True),
    Column("owner_id", Key, nullable=False),
    Column("upstream_name", Words, nullable=False),
    Column("display_name", Words, nullable=False),
    Column("capabilities", Json, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("fallbacks", Json, nullable=False),
    Column("routing", Words, nullable=False),
    Column("weight", BigInteger, nullable=False),
)
CURSORS = Cursors("providers")
_NO_TIME = datetime.fromtimestamp(0, UTC)


class SqlProviderRepository(SqlRepository, ProviderRepository):
    async def get(self, id: ProviderId) -> Provider:
        row = (await self._execute(select(providers).where(*self._named(id)))).first()
        if row is None:
            raise ProviderNotFound(id)
        return (await self._with_models([row]))[0]

    async def add(self, provider: Provider) -> None:
        if not await self._insert(providers, _values(provider)):
            raise ProviderExists(provider.id)
        await self._write_models(provider)
        self._seen.append(provider)

    async def save(self, provider: Provider) -> None:
        values = _values(provider)
        if not await self._update(providers, provider.id, provider.revision, values):
            await self._refuse(provider)
        await self._execute(delete(provider_models).where(*self._models_of(provider.id)))
        await self._write_models(provider)
        provider.revision += 1
        self._seen.append(provider)

    async def remove(self, provider: Provider) -> None:
        if not await self._delete(providers, provider.id, provider.revision):
            await self._refuse(provider)
        await self._execute(delete(provider_models).where(*self._models_of(provider.id)))
        self._seen.append(provider)

    async def page(self, *, limit: int, after: str | None) -> Page[Provider]:
        query = select(providers).where(providers.c.project_id == self._project)
        if after is not None:
            query = query.where(providers.c.id > CURSORS.read(after).id)
        rows = (await self._execute(query.order_by(providers.c.id).limit(limit + 1))).all()
        return CURSORS.page(await self._with_models(rows), limit, position)

    async def users_of(
        self, id: ProviderId, model: str | None = None, *, by_id: bool = False
    ) -> Sequence[str]:
        named: ColumnElement[bool] = agents.c.model.in_([f"{id}/{model}", *([id] if by_id else [])])
        if model is None:
            # Not LIKE, which takes no notice of case on SQLite.
            begins = func.substr(agents.c.model, 1, len(id) + 1) == f"{id}/"
            named = or_(agents.c.model == id, begins)
        query = select(agents.c.slug, agents.c.number).where(
            agents.c.project_id == self._project, agents.c.status != AgentStatus.REVOKED, named
        )
        query = query.order_by(agents.c.slug, agents.c.number.desc()).limit(MOST_USERS)
        found = [f"{row.slug}@v{row.number}" for row in await self._execute(query)]
        return [*found, *await self._falling_back(id, model, by_id)][:MOST_USERS]

    async def _falling_back(self, id: ProviderId, model: str | None, by_id: bool) -> list[str]:
        columns = provider_models.c
        query = (
            select(columns.provider_id, columns.name, columns.fallbacks)
            .where(columns.project_id == self._project)
            .order_by(columns.provider_id, columns.name)
        )
        return [
            f"{row.provider_id}/{row.name}"
            for row in await self._execute(query)
            if (
                row.provider_id != id
                if model is None
                else (row.provider_id, row.name) != (id, model)
            )
            and any(names(each["model"], id, model, by_id=by_id) for each in row.fallbacks)
        ]

    async def _with_models(self, rows: Sequence[Row[Any]]) -> list[Provider]:
        query = select(provider_models).where(
            provider_models.c.project_id == self._project,
            provider_models.c.provider_id.in_([row.id for row in rows]),
        )
        models = (await self._execute(query.order_by(provider_models.c.name))).all() if rows else []
        return _joined(rows, models)

    async def _write_models(self, provider: Provider) -> None:
        rows = [
            insertable(provider_models, _model_values(provider, model)) for model in provider.models
        ]
        for row in rows:
            await self._execute(insert(provider_models), row)

    async def _refuse(self, provider: Provider) -> None:
        """Raises ProviderNotFound, ConcurrentChange."""
        await self.get(provider.id)
        raise ConcurrentChange(f"Provider '{provider.id}'")

    def _named(self, id: ProviderId) -> tuple[ColumnElement[bool], ...]:
        return providers.c.project_id == self._project, providers.c.id == id

    def _models_of(self, id: ProviderId) -> tuple[ColumnElement[bool], ...]:
        columns = provider_models.c
        return columns.project_id == self._project, columns.provider_id == id


class SqlProviderBook(ProviderBook):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def marks(self) -> Mapping[tuple[ProjectId, ProviderId], ProviderMark]:
        columns = providers.c
        query = select(columns.project_id, columns.id, columns.revision, columns.updated_at)
        with refusals():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
        return {
            (ProjectId(project), ProviderId(id)): (revision, at)
            for project, id, revision, at in rows
        }

    async def providers(self) -> Sequence[Provider]:
        with refusals():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(select(providers))).all()
                models = (
                    await connection.execute(
                        select(provider_models).order_by(provider_models.c.name)
                    )
                ).all()
        return _joined(rows, models)


def position(provider: Provider) -> Position:
    return Position(_NO_TIME, provider.id)


def _joined(rows: Iterable[Row[Any]], models: Iterable[Row[Any]]) -> list[Provider]:
    found: dict[tuple[str, str], list[ProviderModel]] = {}
    for row in models:
        found.setdefault((row.project_id, row.provider_id), []).append(_to_model(row))
    return [_to_provider(row, found.get((row.project_id, row.id), ())) for row in rows]


def _values(provider: Provider) -> Mapping[str, object]:
    key = provider.key
    return {
        "project_id": provider.project_id,
        "id": provider.id,
        "owner_id": provider.owner_id,
        "type": provider.type,
        "base_url": provider.base_url,
        "key_variable": key.variable if isinstance(key, EnvironmentKey) else None,
        "key_sealed": key.sealed if isinstance(key, SealedSecret) else None,
        "key_mark": key.mark if isinstance(key, SealedSecret) else None,
        "default_model": provider.default_model,
        "default_embedding_model": provider.default_embedding_model,
        "formats": None if provider.formats is None else sorted(provider.formats),
        "options": provider.options,
        "tuning": _given(asdict(provider.tuning)),
        "enabled": provider.enabled,
        "created_at": provider.created_at,
        "updated_at": provider.updated_at,
        "revision": provider.revision,
    }


def _to_provider(row: Row[Any], models: Iterable[ProviderModel]) -> Provider:
    key: EnvironmentKey | SealedSecret | None = None
    if row.key_sealed is not None:
        key = SealedSecret(row.key_sealed, row.key_mark)
    elif row.key_variable is not None:
        key = EnvironmentKey(row.key_variable)
    return Provider(
        id=ProviderId(row.id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        type=row.type,
        base_url=row.base_url,
        key=key,
        default_model=row.default_model,
        default_embedding_model=row.default_embedding_model,
        formats=None if row.formats is None else frozenset(row.formats),
        options=row.options,
        tuning=Tuning(**row.tuning),
        enabled=row.enabled,
        models=tuple(models),
        created_at=row.created_at,
        updated_at=row.updated_at,
        revision=row.revision,
    )


def _model_values(provider: Provider, model: ProviderModel) -> Mapping[str, object]:
    return {
        "project_id": provider.project_id,
        "provider_id": provider.id,
        "name": model.name,
        "owner_id": provider.owner_id,
        "upstream_name": model.upstream_name,
        "display_name": model.display_name,
        "capabilities": _given(asdict(model.capabilities)),
        "enabled": model.enabled,
        "fallbacks": [asdict(each) for each in model.fallbacks],
        "routing": model.routing,
        "weight": model.weight,
    }


def _to_model(row: Row[Any]) -> ProviderModel:
    return ProviderModel(
        name=row.name,
        upstream_name=row.upstream_name,
        display_name=row.display_name,
        capabilities=Capabilities(**row.capabilities),
        enabled=row.enabled,
        fallbacks=tuple(Fallback(**each) for each in row.fallbacks),
        routing=Routing(row.routing),
        weight=row.weight,
    )


def _given(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
