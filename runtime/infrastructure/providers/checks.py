"""What a provider is checked by, before it is registered."""

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from yarl import URL

from runtime.domain.entities.providers import Provider
from runtime.domain.errors import InvalidValue
from runtime.domain.services.providers import KeyVariables, ProviderChecks, ProviderType
from runtime.domain.value_objects.providers import Tuning, missing_key
from runtime.infrastructure.egress import EgressClient
from runtime.infrastructure.providers.adapters import AdapterRegistry
from runtime.infrastructure.providers.base import Connection, Timeouts
from runtime.infrastructure.settings import PREFIX, Settings


class AdapterChecks(ProviderChecks):
    def __init__(self, adapters: AdapterRegistry, egress: EgressClient) -> None:
        self._adapters = adapters
        self._egress = egress

    def types(self) -> Sequence[ProviderType]:
        found = []
        for name in self._adapters.types():
            try:
                found.append(self.type(name))
            except InvalidValue:
                # Installed, but it does not load; its registry has logged why.
                continue
        return found

    def type(self, name: str) -> ProviderType:
        adapter = self._adapters.get(name)
        return ProviderType(
            name,
            adapter.default_base_url,
            adapter.usual_model,
            sorted(adapter.option_names),
            adapter.needs_key,
        )

    def check(self, provider: Provider, api_key: str | None) -> None:
        if provider.base_url is not None:
            _check_address(provider.base_url)
        adapter = self._adapters.get(provider.type)
        adapter.connect(self._egress, connection_of(provider, api_key, Tuning()))


class EnvironmentVariables(KeyVariables):
    """Those that match the operator's patterns; never one of the runtime's own."""

    def __init__(self, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
        self._patterns = settings.provider_key_variables
        self._environment = environment
        known = {
            "OPENAI_API_KEY": settings.openai_api_key,
            "ANTHROPIC_API_KEY": settings.anthropic_api_key,
        }
        self._known = {name: key.get_secret_value() for name, key in known.items() if key}
        """They may stand in a file, too."""

    def read(self, variable: str) -> str:
        if variable.upper().startswith(PREFIX) or not any(
            fnmatchcase(variable, pattern) for pattern in self._patterns
        ):
            raise InvalidValue(
                "This environment variable may not be named as a provider's key; the operator's "
                f"RUNTIME_PROVIDER_KEY_VARIABLES allows {', '.join(self._patterns) or 'none'}.",
                param="api_key_env",
            )
        value = (self._known.get(variable) or self._environment.get(variable, "")).strip()
        if not value:
            raise missing_key(variable)
        return value


def connection_of(provider: Provider, api_key: str | None, defaults: Tuning) -> Connection:
    """`defaults`: of the operator's settings, or none at all where nobody is called."""
    times = {
        name: value
        for name in ("connect_s", "first_token_s", "idle_s", "answer_s", "total_s")
        if (value := getattr(provider.tuning.over(defaults), name)) is not None
    }
    return Connection(
        provider.id,
        provider.base_url,
        api_key,
        provider.default_model,
        provider.default_embedding_model,
        provider.formats,
        provider.options,
        Timeouts(**times),
    )


def _check_address(base_url: str) -> None:
    """Raises InvalidValue. It is shown to administrators, so it holds no secret."""
    try:
        url = URL(base_url)
        plain = not (url.raw_user or url.raw_password or url.raw_query_string or url.raw_fragment)
        plain = plain and base_url.isprintable() and " " not in base_url
        if url.scheme in ("http", "https") and url.raw_host and plain:
            return
    except ValueError:
        pass
    raise InvalidValue(
        "A provider's base URL begins with http:// or https:// and has neither credentials, a "
        "query, a fragment nor blanks.",
        param="base_url",
    )
