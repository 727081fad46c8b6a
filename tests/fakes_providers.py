"""In-memory stand-ins for the registry of providers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.domain.entities.providers import Provider, ProviderMark
from runtime.domain.errors import ConcurrentChange, InvalidValue, ProviderExists, ProviderNotFound
from runtime.domain.repositories.providers import ProviderBook, ProviderRepository
from runtime.domain.services.providers import KeyVariables, ProviderChecks, ProviderType
from runtime.domain.value_objects.agents import AgentStatus
from runtime.domain.value_objects.ids import ProjectId, ProviderId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.providers import missing_key, names
from runtime.infrastructure.repositories.providers import CURSORS, MOST_USERS, position

if TYPE_CHECKING:
    from tests.fakes import MemoryStore, MemoryTransaction, Tables


class MemoryProviderRepository(ProviderRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def get(self, id: ProviderId) -> Provider:
        for provider in self._ours():
            if provider.id == id:
                return replace(provider, events=[])
        raise ProviderNotFound(id)

    async def add(self, provider: Provider) -> None:
        self._transaction.own(provider)
        tables = await self._transaction.writing()
        if (provider.project_id, provider.id) in tables.providers:
            raise ProviderExists(provider.id)
        self._put(tables, provider)

    async def save(self, provider: Provider) -> None:
        tables = await self._checked(provider)
        provider.revision += 1
        self._put(tables, provider)

    async def remove(self, provider: Provider) -> None:
        del (await self._checked(provider)).providers[provider.project_id, provider.id]
        self._transaction.seen.append(provider)

    async def page(self, *, limit: int, after: str | None) -> Page[Provider]:
        start = CURSORS.read(after).id if after is not None else ""
        found = sorted(self._ours(), key=lambda each: each.id)
        rest = [replace(each, events=[]) for each in found if each.id > start]
        return CURSORS.page(rest[: limit + 1], limit, position)

    async def users_of(
        self, id: ProviderId, model: str | None = None, *, by_id: bool = False
    ) -> Sequence[str]:
        agents = self._transaction.ours(self._transaction.tables.agents.values())
        using = [
            agent
            for agent in agents
            if agent.spec.model
            and names(agent.spec.model, id, model, by_id=by_id)
            and agent.status is not AgentStatus.REVOKED
        ]
        using.sort(key=lambda agent: (agent.slug.value, -agent.number))
        falling_back = sorted(
            f"{provider.id}/{each.name}"
            for provider in self._ours()
            for each in provider.models
            if (provider.id != id if model is None else (provider.id, each.name) != (id, model))
            and any(names(fallback.model, id, model, by_id=by_id) for fallback in each.fallbacks)
        )
        return [*(f"{each.slug}@{each.version}" for each in using), *falling_back][:MOST_USERS]

    def _ours(self) -> list[Provider]:
        return self._transaction.ours(self._transaction.tables.providers.values())

    def _put(self, tables: "Tables", provider: Provider) -> None:
        tables.providers[provider.project_id, provider.id] = replace(provider, events=[])
        self._transaction.seen.append(provider)

    async def _checked(self, provider: Provider) -> "Tables":
        tables = await self._transaction.writing()
        if (await self.get(provider.id)).revision != provider.revision:
            raise ConcurrentChange(f"Provider '{provider.id}'")
        return tables


class MemoryProviderBook(ProviderBook):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    async def marks(self) -> Mapping[tuple[ProjectId, ProviderId], ProviderMark]:
        stored = self._store.tables.providers.values()
        return {(each.project_id, each.id): each.mark for each in stored}

    async def providers(self) -> Sequence[Provider]:
        return [replace(each, events=[]) for each in self._store.tables.providers.values()]


class ScriptedChecks(ProviderChecks):
    """Types `openai`, at its vendor's, and `local`, on this machine; hosts that are refused."""

    def __init__(self) -> None:
        self.checked: list[tuple[Provider, str | None]] = []
        self.refusal: Exception | None = None

    def types(self) -> Sequence[ProviderType]:
        return [
            ProviderType("local", "http://127.0.0.1:11434/v1", "small", [], False),
            ProviderType("openai", "https://api.openai.com/v1", "gpt", ["organization"], True),
        ]

    def type(self, name: str) -> ProviderType:
        for each in self.types():
            if each.name == name:
                return each
        raise InvalidValue(f"There is no provider type '{name}'.", param="type")

    def check(self, provider: Provider, api_key: str | None) -> None:
        self.checked.append((provider, api_key))
        if self.refusal:
            raise self.refusal


class ScriptedVariables(KeyVariables):
    def __init__(self, **variables: str) -> None:
        self.variables = variables

    def read(self, variable: str) -> str:
        if variable not in self.variables:
            raise missing_key(variable)
        return self.variables[variable]
