"""What a provider has to pass before it is registered or changed."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from runtime.application.commands.providers import GivenKey
from runtime.application.services.provider_keys import ProviderKeys
from runtime.domain.entities.providers import Provider, ProviderModel
from runtime.domain.errors import (
    Forbidden,
    InvalidValue,
    ProviderExists,
    ProviderNotFound,
    ProviderReadOnly,
)
from runtime.domain.services.models import ModelServices
from runtime.domain.services.providers import Configured, KeyVariables, ProviderChecks
from runtime.domain.unit_of_work import UnitOfWork
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import ProviderId
from runtime.domain.value_objects.providers import EnvironmentKey
from runtime.domain.value_objects.secrets import SealedSecret

RESERVED = ("health", "register", "types")
"""What stands in an id's place in some door's path."""

VENDORS = (
    ("OPENAI_", "openai"),
    ("ANTHROPIC_", "anthropic"),
    ("AZURE_", "azure_openai"),
    ("HF_", "huggingface"),
    ("HUGGINGFACE_", "huggingface"),
)
"""Whose key a variable has, by how its name begins, where that is known."""


@dataclass(frozen=True)
class Vetting:
    checks: ProviderChecks
    variables: KeyVariables
    keys: ProviderKeys
    models: ModelServices
    configured: Sequence[Configured]
    """The operator's, which no project can change."""

    @property
    def operators(self) -> Mapping[str, Provider]:
        return {each.provider.id: each.provider for each in self.configured}

    def not_an_operators(self, id: str) -> None:
        """Raises ProviderReadOnly."""
        if id in self.operators:
            raise ProviderReadOnly(id)

    def free(self, id: ProviderId) -> None:
        """Raises InvalidValue, ProviderExists for one of the operator's; the store knows the
        others."""
        if id in RESERVED:
            raise InvalidValue(f"'{id}' is no id of a provider: it has a route.", param="id")
        if id in self.operators:
            raise ProviderExists(id)

    def give_key(self, provider: Provider, given: GivenKey) -> None:
        """Raises InvalidValue."""
        if given.text is not None and given.variable is not None:
            raise InvalidValue(
                "Send the key as api_key or name it in api_key_env.", param="api_key"
            )
        if given.text is not None:
            text = given.text.strip()
            if not text:
                raise InvalidValue("The key is empty; leave it out for none.", param="api_key")
            provider.key = self.keys.seal(provider, text)
        else:
            provider.key = EnvironmentKey(given.variable) if given.variable else None

    def check(self, provider: Provider, actor: Principal) -> None:
        """Raises InvalidValue, EgressRefused, Forbidden, SecretUnreadable."""
        self.checks.type(provider.type)
        if isinstance(provider.key, EnvironmentKey):
            self._may_name(provider.key.variable, provider, actor)
        self.checks.check(provider, self._text(provider))

    async def check_fallbacks(
        self, work: UnitOfWork, provider: Provider, models: Iterable[ProviderModel]
    ) -> None:
        """Raises InvalidValue for one that is not there, and for a model that steps in for
        itself, by whatever way."""
        for model in models:
            chain = _Chain(self, work, provider, model)
            named = [each.model for each in model.fallbacks]
            if len(set(named)) < len(named):
                raise InvalidValue("A fallback is named twice.", param="fallbacks")
            for reference in named:
                await chain.follow(reference)

    async def find(self, work: UnitOfWork, reference: str, asking: Provider) -> Provider | None:
        """Raises InvalidValue where nobody serves the reference."""
        head, slash, rest = reference.partition("/")
        found = asking if head == asking.id else await stored(work, ProviderId(head))
        found = found or self.operators.get(head)
        if found is None or (slash and not rest):
            try:
                self.models.of(asking.project_id).check(reference)
            except InvalidValue as error:
                raise InvalidValue(str(error), param="fallbacks", details=error.details) from error
        return found

    def default_model(self, provider: Provider) -> str | None:
        """The one meant by the provider's id alone."""
        if provider.default_model is None:
            with suppress(InvalidValue):
                return self.checks.type(provider.type).default_model
        return provider.default_model

    def _may_name(self, variable: str, provider: Provider, actor: Principal) -> None:
        """Who chooses the address could read the runtime's environment there."""
        if actor.may_self_approve:
            return
        vendor = next((type for name, type in VENDORS if variable.startswith(name)), provider.type)
        own = self.checks.type(provider.type).default_base_url or ""
        given = (provider.base_url or own).rstrip("/")
        at_home = given == own.rstrip("/") and own.startswith("https://")
        if not at_home or vendor != provider.type:
            raise Forbidden(
                "A key of the runtime's environment goes to its vendor only. Leave base_url out "
                "and name the vendor's own type, "
                "or send the key itself as api_key, or let the operator register this provider."
            )

    def _text(self, provider: Provider) -> str | None:
        match provider.key:
            case EnvironmentKey(variable):
                return self.variables.read(variable)
            case SealedSecret() as key:
                return self.keys.open(provider, key)
        return None


class _Chain:
    """Where the fallbacks of a model lead."""

    def __init__(
        self, vetting: Vetting, work: UnitOfWork, provider: Provider, model: ProviderModel
    ) -> None:
        self._vetting = vetting
        self._work = work
        self._provider = provider
        self._start = (provider.id, model.name)
        self._seen: set[tuple[str, str]] = set()

    async def follow(self, reference: str) -> None:
        waiting = [reference]
        while waiting:
            reference = waiting.pop()
            found = await self._vetting.find(self._work, reference, self._provider)
            if found is None:
                continue
            name = reference.partition("/")[2] or self._vetting.default_model(found) or ""
            if (found.id, name) == self._start:
                raise InvalidValue(
                    f"By the fallback '{reference}' the model would step in for itself.",
                    param="fallbacks",
                )
            if (found.id, name) not in self._seen:
                self._seen.add((found.id, name))
                models = (each for each in found.models if each.name == name)
                waiting += [each.model for model in models for each in model.fallbacks]


async def stored(work: UnitOfWork, id: ProviderId) -> Provider | None:
    try:
        return await work.providers.get(id)
    except ProviderNotFound:
        return None
