"""Commands that change providers and their models: each one transaction, with its audit row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from runtime.application.commands.providers import (
    ChangeModel,
    ChangeProvider,
    PricedModel,
    PutModel,
    RegisterProvider,
    RemoveModel,
    RemoveProvider,
    TryProvider,
)
from runtime.application.handlers.limits import priced
from runtime.application.services.auditing import rule_entry
from runtime.application.services.vetting import Vetting, stored
from runtime.domain.entities.limits import PriceRule
from runtime.domain.entities.providers import Provider
from runtime.domain.errors import (
    InvalidValue,
    ProviderInUse,
    ProviderModelExists,
    ProviderNotFound,
    StaleVersion,
)
from runtime.domain.services.models import ModelServices, Probed
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import ProviderId
from runtime.domain.value_objects.providers import EnvironmentKey, model_name, provider_id
from runtime.domain.value_objects.secrets import SealedSecret

MOST_MODELS = 200
_CONNECTION = frozenset({"type", "base_url", "options"})


@dataclass(frozen=True)
class RegisterProviderHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    vetting: Vetting

    async def __call__(self, command: RegisterProvider) -> Provider:
        """Raises Forbidden, InvalidValue, EgressRefused, ProviderExists."""
        actor, at = command.actor, self.now()
        may_change(actor)
        id = provider_id(command.id)
        self.vetting.free(id)
        models = {each.model.name: each.model for each in command.models}
        provider = Provider(
            id=id,
            project_id=actor.project_id,
            owner_id=actor.user_id,
            type=command.type,
            models=tuple(models[name] for name in sorted(models)),
            created_at=at,
            updated_at=at,
        )
        _set(provider, command.fields)
        self.vetting.give_key(provider, command.key)
        self.vetting.check(provider, actor)
        _check_models(provider, len(command.models))
        provider.touch(at)
        async with self.uow(actor.scope) as work:
            await self.vetting.check_fallbacks(work, provider, provider.models)
            await work.providers.add(provider)
            for each in command.models:
                await _set_price(work, provider, each, actor, at)
            await _record(work, "register_provider", provider, actor, at, _detail(provider))
            await work.commit()
        return provider


@dataclass(frozen=True)
class ChangeProviderHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    vetting: Vetting

    async def __call__(self, command: ChangeProvider) -> Provider:
        """Raises Forbidden, ProviderNotFound, StaleVersion, InvalidValue, EgressRefused,
        ConcurrentChange."""
        actor, at = command.actor, self.now()
        may_change(actor)
        async with self.uow(actor.scope) as work:
            provider = await _read(work, self.vetting, command.id, command.if_match)
            self._change(provider, command)
            if command.fields.get("default_model"):
                await self.vetting.check_fallbacks(work, provider, provider.models)
            provider.touch(at)
            await work.providers.save(provider)
            detail = {**_detail(provider), "changed": sorted(_changed(command))}
            await _record(work, "change_provider", provider, actor, at, detail)
            await work.commit()
        return provider

    def _change(self, provider: Provider, command: ChangeProvider) -> None:
        before = (provider.type, provider.base_url)
        _set(provider, command.fields)
        moved = before != (provider.type, provider.base_url)
        if command.key is not None:
            self.vetting.give_key(provider, command.key)
        elif moved and isinstance(provider.key, SealedSecret):
            raise InvalidValue(
                "The stored key was given for another address: send api_key again with a new type "
                "or base_url, or null for none.",
                param="api_key",
            )
        if command.key is not None or command.fields.keys() & _CONNECTION:
            self.vetting.check(provider, command.actor)


@dataclass(frozen=True)
class RemoveProviderHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    vetting: Vetting

    async def __call__(self, command: RemoveProvider) -> Provider:
        """Raises Forbidden, ProviderNotFound, StaleVersion, ProviderInUse, ConcurrentChange."""
        actor, at = command.actor, self.now()
        may_change(actor)
        async with self.uow(actor.scope) as work:
            provider = await _read(work, self.vetting, command.id, command.if_match)
            if users := await work.providers.users_of(provider.id):
                raise ProviderInUse(provider.id, users)
            provider.touch(at)
            await work.providers.remove(provider)
            await _record(work, "remove_provider", provider, actor, at, {})
            await work.commit()
        return provider


@dataclass(frozen=True)
class PutModelHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    vetting: Vetting

    async def __call__(self, command: PutModel) -> Provider:
        """Raises Forbidden, ProviderNotFound, ProviderModelExists, StaleVersion, InvalidValue,
        ConcurrentChange."""
        actor, at, model = command.actor, self.now(), command.priced.model
        may_change(actor)
        async with self.uow(actor.scope) as work:
            provider = await _read(work, self.vetting, command.provider, command.if_match)
            if command.new and any(each.name == model.name for each in provider.models):
                raise ProviderModelExists(f"{provider.id}/{model.name}")
            await _put(work, self.vetting, provider, command.priced, actor, at)
            await work.commit()
        return provider


@dataclass(frozen=True)
class ChangeModelHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    vetting: Vetting

    async def __call__(self, command: ChangeModel) -> Provider:
        """Raises Forbidden, ProviderNotFound, ProviderModelNotFound, StaleVersion, InvalidValue,
        ConcurrentChange."""
        actor, at = command.actor, self.now()
        may_change(actor)
        async with self.uow(actor.scope) as work:
            provider = await _read(work, self.vetting, command.provider, command.if_match)
            model = replace(provider.model(command.name), **command.fields)
            await _put(work, self.vetting, provider, PricedModel(model, command.price), actor, at)
            await work.commit()
        return provider


@dataclass(frozen=True)
class RemoveModelHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    vetting: Vetting

    async def __call__(self, command: RemoveModel) -> Provider:
        """Raises Forbidden, ProviderNotFound, ProviderModelNotFound, StaleVersion, ProviderInUse,
        ConcurrentChange."""
        actor, at, name = command.actor, self.now(), command.name
        may_change(actor)
        async with self.uow(actor.scope) as work:
            provider = await _read(work, self.vetting, command.provider, command.if_match)
            provider.remove_model(name, at)
            by_id = self.vetting.default_model(provider) == name
            if users := await work.providers.users_of(provider.id, name, by_id=by_id):
                raise ProviderInUse(f"{provider.id}/{name}", users)
            await work.providers.save(provider)
            await _record(work, "remove_model", provider, actor, at, {"model": name})
            await work.commit()
        return provider


@dataclass(frozen=True)
class TryProviderHandler:
    """A test call: it costs what a short call costs."""

    uow: UnitOfWorkFactory
    vetting: Vetting
    models: ModelServices

    async def __call__(self, command: TryProvider) -> Probed:
        """Raises Forbidden, ProviderNotFound."""
        actor, id = command.actor, command.id
        may_change(actor)
        if id not in self.vetting.operators:
            async with self.uow(actor.scope) as work:
                await work.providers.get(ProviderId(id))
        name = f"{id}/{model_name(command.model, 'model')}" if command.model else id
        return await self.models.probe(actor.project_id, name)


def may_change(actor: Principal) -> None:
    """Raises Forbidden."""
    actor.require_scope(KeyScope.PROVIDERS)
    actor.require(Role.ADMIN, "change or try providers")


async def _read(
    work: UnitOfWork, vetting: Vetting, id: str, if_match: str | None = None
) -> Provider:
    """Raises ProviderNotFound, ProviderReadOnly, StaleVersion."""
    provider = await stored(work, ProviderId(id))
    if provider is None:
        vetting.not_an_operators(id)
        raise ProviderNotFound(id)
    if if_match not in (None, "*", provider.etag):
        raise StaleVersion(provider.etag, "this provider")
    return provider


def _set(provider: Provider, fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        setattr(provider, name, value)


def _changed(command: ChangeProvider) -> set[str]:
    return {*command.fields, *(["key"] if command.key is not None else [])}


def _check_models(provider: Provider, count: int) -> None:
    """Raises InvalidValue."""
    for name in (
        each for each in (provider.default_model, provider.default_embedding_model) if each
    ):
        model_name(name, "default_model")
    for model in provider.models:
        model_name(model.name)
        model_name(model.upstream_name, "upstream_name")
    if count > len(provider.models):
        raise InvalidValue("A model is named twice.", param="models")
    if count > MOST_MODELS:
        raise InvalidValue(f"A provider has at most {MOST_MODELS} models.", param="models")


async def _put(
    work: UnitOfWork,
    vetting: Vetting,
    provider: Provider,
    priced: PricedModel,
    actor: Principal,
    at: datetime,
) -> None:
    model = priced.model
    before = [each for each in provider.models if each.name == model.name]
    provider.put_model(model, at)
    _check_models(provider, len(provider.models))
    if not before or before[0].fallbacks != model.fallbacks:
        await vetting.check_fallbacks(work, provider, [model])
    await work.providers.save(provider)
    await _set_price(work, provider, priced, actor, at)
    detail = {"model": model.name, "enabled": model.enabled}
    await _record(work, "put_model", provider, actor, at, detail)


async def _set_price(
    work: UnitOfWork, provider: Provider, each: PricedModel, actor: Principal, at: datetime
) -> None:
    if each.price is None:
        return
    name = f"{provider.id}/{each.model.name}"
    if "*" in name:
        raise InvalidValue("A model with '*' in its name can't have a price.", param="price")
    rule = PriceRule(
        model=name,
        project_id=actor.project_id,
        owner_id=actor.user_id,
        price=each.price,
        updated_at=at,
    )
    await work.prices.put(rule)
    await work.audit.add(
        rule_entry("set_price", name, actor.user_id, actor, at, priced(each.price))
    )


async def _record(
    work: UnitOfWork,
    action: str,
    provider: Provider,
    actor: Principal,
    at: datetime,
    detail: Mapping[str, object],
) -> None:
    await work.audit.add(rule_entry(action, provider.id, provider.owner_id, actor, at, detail))


def _detail(provider: Provider) -> Mapping[str, object]:
    key = provider.key
    return {
        "type": provider.type,
        "base_url": provider.base_url,
        "key": key.variable if isinstance(key, EnvironmentKey) else key and "stored",
        "enabled": provider.enabled,
        "models": [model.name for model in provider.models],
    }
