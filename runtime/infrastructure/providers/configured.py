"""The operator's providers: those of the settings, and the demo."""

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from runtime.domain.entities.providers import Provider
from runtime.domain.errors import InvalidValue
from runtime.domain.services.providers import Configured
from runtime.domain.value_objects.identity import DEFAULT_PROJECT
from runtime.domain.value_objects.ids import ProviderId, UserId
from runtime.domain.value_objects.providers import EnvironmentKey, missing_key
from runtime.infrastructure.provider_shapes import ProviderTable, formats_of
from runtime.infrastructure.settings import Settings

__all__ = ["Configured", "configured", "own_addresses"]

OPERATOR = UserId("operator")
_LOCAL = "http://127.0.0.1:11434/v1"
"""What the type `local` means without a base URL; written out so that it may be called."""


def configured(
    settings: Settings, environment: Mapping[str, str] = os.environ
) -> Sequence[Configured]:
    """The first is the one of agents that name no model. Raises InvalidValue."""
    found = list(_all(settings, environment))
    names = [each.provider.id for each in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidValue(
                f"The provider '{name}' is configured twice: by {name.upper()}_API_KEY or "
                f"{name.upper()}_BASE_URL, and in RUNTIME_PROVIDERS or [providers.{name}]."
            )
    _check_fallbacks([each.provider for each in found])
    return found


def own_addresses(settings: Settings) -> Sequence[str]:
    """What the operator wrote is called as it stands."""
    by_name = ("openai_base_url", "anthropic_base_url")
    own = [getattr(settings, name) for name in by_name if name in settings.model_fields_set]
    tables = (_address(table) for table in settings.providers.values())
    return [*own, *(address for address in tables if address)]


def _all(settings: Settings, environment: Mapping[str, str]) -> Iterator[Configured]:
    if settings.openai_configured:
        yield _built_in(
            "openai",
            settings.openai_api_key,
            base_url=settings.openai_base_url,
            default_model=settings.openai_model,
            default_embedding_model=settings.openai_embedding_model,
            formats=settings.openai_formats,
        )
    if settings.anthropic_configured:
        yield _built_in(
            "anthropic",
            settings.anthropic_api_key,
            base_url=settings.anthropic_base_url,
            default_model=settings.anthropic_model,
        )
    for name, table in settings.providers.items():
        yield Configured(_of_table(name, table), _key(name, table, environment))
    yield _built_in("demo", None, options={"token_delay_ms": settings.demo_token_delay_ms})


def _check_fallbacks(providers: Sequence[Provider]) -> None:
    """Raises InvalidValue. Fallbacks of fallbacks are not followed, so no circle does harm."""
    names = [each.id for each in providers]
    for provider in providers:
        for model in provider.models:
            for fallback in model.fallbacks:
                head, slash, rest = fallback.model.partition("/")
                if head not in names or (slash and not rest):
                    raise InvalidValue(
                        f"RUNTIME_PROVIDERS.{provider.id}.models.{model.name}.fallbacks: no "
                        f"provider of the settings serves '{fallback.model}'. Write "
                        f"'provider/name'; the providers are: {', '.join(names)}."
                    )


def _built_in(name: str, key: SecretStr | None, **fields: Any) -> Configured:  # noqa: ANN401
    variable = EnvironmentKey(f"{name.upper()}_API_KEY") if key else None
    provider = _provider(name, type=name, key=variable, **fields)
    return Configured(provider, key.get_secret_value() if key else None)


def _of_table(name: str, table: ProviderTable) -> Provider:
    return _provider(
        name,
        type=table.type,
        base_url=_address(table),
        key=EnvironmentKey(table.api_key_env) if table.api_key_env else None,
        default_model=table.default_model,
        default_embedding_model=table.default_embedding_model,
        formats=formats_of(table.structured_output),
        options=table.options,
        tuning=table.tuning.tuning(),
        enabled=table.enabled,
        models=tuple(shape.model(model) for model, shape in sorted(table.models.items())),
    )


def _provider(name: str, **fields: Any) -> Provider:  # noqa: ANN401 - of the entity
    always = datetime.fromtimestamp(0, UTC)
    return Provider(
        id=ProviderId(name),
        project_id=DEFAULT_PROJECT,
        owner_id=OPERATOR,
        created_at=always,
        updated_at=always,
        **fields,
    )


def _address(table: ProviderTable) -> str | None:
    return table.base_url or (_LOCAL if table.type == "local" else None)


def _key(name: str, table: ProviderTable, environment: Mapping[str, str]) -> str | None:
    """Raises InvalidValue."""
    if table.api_key_env is None:
        return table.api_key.get_secret_value() if table.api_key else None
    key = environment.get(table.api_key_env, "").strip()
    if not key:
        raise missing_key(table.api_key_env, param=f"RUNTIME_PROVIDERS.{name}.api_key_env")
    return key
