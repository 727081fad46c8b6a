import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from runtime.application.handlers.providers import may_change
from runtime.application.services.vetting import Vetting, stored
from runtime.domain.entities.providers import Provider, ProviderModel
from runtime.domain.errors import DomainError, PriceNotFound, ProviderNotFound
from runtime.domain.services.models import ModelHealth, ModelServices
from runtime.domain.services.providers import ProviderType
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import ProviderId
from runtime.domain.value_objects.limits import Price
from runtime.domain.value_objects.pages import Page

AT_ONCE = 8
"""Test calls."""
_MOST = 200


@dataclass(frozen=True, slots=True)
class ProviderView:
    provider: Provider
    operators: bool
    """Set in the settings: there for every project, and for no project to change."""
    has_key: bool
    shows_address: bool
    """An address may be of a network that only administrators know of."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By the model's name; only where one provider is asked for."""


@dataclass(frozen=True, slots=True)
class Condition:
    provider: str
    type: str
    status: str
    latency_ms: float | None = None
    """Of the test call."""
    error: DomainError | None = None
    models: Sequence[ModelHealth] = ()


@dataclass(frozen=True)
class ProviderQueries:
    uow: UnitOfWorkFactory
    vetting: Vetting
    models: ModelServices

    async def page(self, actor: Principal, *, limit: int, after: str | None) -> Page[ProviderView]:
        """By id; before them, on the first page, the operator's."""
        actor.require_scope(KeyScope.PROVIDERS)
        async with self.uow(actor.scope) as work:
            page = await work.providers.page(limit=limit, after=after)
            first = await self._unreplaced(work, page) if after is None else []
        return Page([*first, *(self.view(actor, each) for each in page.items)], page.next_cursor)

    @property
    def operators(self) -> Sequence[ProviderView]:
        return [
            ProviderView(each.provider, True, bool(each.api_key), shows_address=False)
            for each in self.vetting.configured
        ]

    async def get(self, actor: Principal, id: str) -> ProviderView:
        """Raises ProviderNotFound."""
        actor.require_scope(KeyScope.PROVIDERS)
        async with self.uow(actor.scope) as work:
            provider = await stored(work, ProviderId(id))
            if provider is not None:
                return self.view(actor, provider, await _prices(work, provider))
        for each in self.operators:
            if each.provider.id == id:
                return each
        raise ProviderNotFound(id)

    async def _unreplaced(self, work: UnitOfWork, page: Page[Provider]) -> Sequence[ProviderView]:
        """The operator's but for those that a provider of the project goes before."""
        replaced = {each.id for each in page.items}
        if page.next_cursor is not None:
            ids = [each.provider.id for each in self.operators]
            replaced |= {id for id in ids if await stored(work, id)}
        return [each for each in self.operators if each.provider.id not in replaced]

    async def model(
        self, actor: Principal, id: str, name: str
    ) -> tuple[ProviderView, ProviderModel]:
        """Raises ProviderNotFound, ProviderModelNotFound."""
        view = await self.get(actor, id)
        return view, view.provider.model(name)

    def view(
        self, actor: Principal, provider: Provider, prices: Mapping[str, Price] | None = None
    ) -> ProviderView:
        return ProviderView(
            provider, False, provider.key is not None, actor.has(Role.ADMIN), prices or {}
        )

    def types(self, actor: Principal) -> Sequence[ProviderType]:
        actor.require_scope(KeyScope.PROVIDERS)
        return self.vetting.checks.types()

    async def health(self, actor: Principal, *, probe: bool) -> Sequence[Condition]:
        """From the calls so far; with `probe`, from one test call of each provider.

        Raises Forbidden.
        """
        actor.require_scope(KeyScope.PROVIDERS)
        if probe:
            may_change(actor)
        providers = await self._every_provider(actor)
        if probe:
            return await self._probed(actor, providers)
        known = {each.provider: each for each in self.models.health(actor.project_id)}
        return [
            Condition(
                provider.id,
                provider.type,
                known[provider.id].status if provider.id in known else _unknown(provider),
                models=known[provider.id].models if provider.id in known else (),
            )
            for provider in providers
        ]

    async def _probed(self, actor: Principal, providers: Sequence[Provider]) -> Sequence[Condition]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(provider: Provider) -> Condition:
            if not provider.enabled:
                return Condition(provider.id, provider.type, "disabled")
            async with places:
                try:
                    probed = await self.models.probe(actor.project_id, provider.id)
                except DomainError as error:
                    return Condition(provider.id, provider.type, "unhealthy", error=error)
            status = "unhealthy" if probed.error else "healthy"
            return Condition(provider.id, provider.type, status, probed.latency_ms, probed.error)

        return await asyncio.gather(*map(one, providers))

    async def _every_provider(self, actor: Principal) -> Sequence[Provider]:
        found: list[Provider] = []
        after = None
        while True:
            async with self.uow(actor.scope) as work:
                page = await work.providers.page(limit=_MOST, after=after)
            found += page.items
            if (after := page.next_cursor) is None:
                break
        replaced = {each.id for each in found}
        own = (each.provider for each in self.vetting.configured)
        return [*(each for each in own if each.id not in replaced), *found]


def _unknown(provider: Provider) -> str:
    return "healthy" if provider.enabled else "disabled"


async def _prices(work: UnitOfWork, provider: Provider) -> Mapping[str, Price]:
    found = {}
    for model in provider.models:
        with suppress(PriceNotFound):
            found[model.name] = (await work.prices.get(f"{provider.id}/{model.name}")).price
    return found
