"""From what is configured or registered to what is called."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from runtime.application.services.provider_keys import ProviderKeys
from runtime.domain.entities.providers import Provider as ProviderSpec
from runtime.domain.errors import DomainError, UpstreamMisconfigured
from runtime.domain.services.providers import Configured, KeyVariables
from runtime.domain.value_objects.providers import EnvironmentKey, Tuning
from runtime.infrastructure.egress import EgressClient
from runtime.infrastructure.providers.adapters import AdapterRegistry
from runtime.infrastructure.providers.base import Provider
from runtime.infrastructure.providers.checks import connection_of
from runtime.infrastructure.providers.live import LiveProvider
from runtime.infrastructure.redaction import redacted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Connector:
    adapters: AdapterRegistry
    egress: EgressClient
    defaults: Tuning
    """Complete."""
    keys: ProviderKeys
    variables: KeyVariables

    def configured(self, each: Configured) -> LiveProvider:
        """One of the operator's."""
        return self._live(each.provider, lambda: each.api_key)

    def registered(self, provider: ProviderSpec) -> LiveProvider:
        """One of a project's."""
        live = self._live(provider, lambda: self._key(provider))
        live.project = provider.project_id
        return live

    def _live(self, provider: ProviderSpec, key: Callable[[], str | None]) -> LiveProvider:
        tuning = provider.tuning.over(self.defaults)

        def connect() -> _Connected:
            secret = key()
            connection = connection_of(provider, secret, tuning)
            adapter = self.adapters.get(provider.type).connect(self.egress, connection)
            return adapter, redacted.know([secret] if secret else [])

        return LiveProvider(
            _WhenCalled(provider, connect, lambda: self.adapters.get(provider.type)),
            provider.type,
            tuning,
            provider.models,
            provider.default_model,
            enabled=provider.enabled,
        )

    def _key(self, provider: ProviderSpec) -> str | None:
        """Raises InvalidValue, SecretUnreadable."""
        match provider.key:
            case None:
                return None
            case EnvironmentKey(variable):
                return self.variables.read(variable)
            case sealed:
                return self.keys.open(provider, sealed)


_Connected = tuple[Provider, Callable[[], None]]
"""What is called, and what lets the log show its key again."""


class _WhenCalled:
    """Connected at the first call, and again when its type is loaded anew.

    What stands in the way is the caller's error then, not the end of everything else.
    """

    def __init__(
        self, spec: ProviderSpec, connect: Callable[[], "_Connected"], version: Callable[[], object]
    ) -> None:
        self.id: str = spec.id
        self._connect = connect
        self._version = version
        self._made_with: object = None
        self._made: list[_Connected] = []

    def __call__(self) -> Provider:
        """Raises UpstreamMisconfigured."""
        try:
            version = self._version()
            if not self._made or version is not self._made_with:
                self._made.append(self._connect())
                self._made_with = version
        except DomainError as error:
            logger.warning("provider %s can't be called: %s", self.id, error)
            raise UpstreamMisconfigured(
                f"The model provider '{self.id}' can't be called as it is configured; an admin "
                f"finds out why with POST /v1/providers/{self.id}/test."
            ) from error
        return self._made[-1][0]

    async def aclose(self) -> None:
        for adapter, forget in self._made:
            await adapter.aclose()
            forget()
