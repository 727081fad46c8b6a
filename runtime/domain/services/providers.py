"""What the registry of providers has to know of the outside."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runtime.domain.entities.providers import Provider


@dataclass(frozen=True, slots=True)
class Configured:
    """A provider of the operator's settings, there for every project."""

    provider: Provider
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ProviderType:
    """An adapter, as a registration names it."""

    name: str
    default_base_url: str | None
    default_model: str | None
    options: Sequence[str]
    needs_key: bool
    """Where nothing but its own base URL is given."""


class ProviderChecks(Protocol):
    """Whether a provider could be called as it is described; nobody is called for it."""

    def types(self) -> Sequence[ProviderType]: ...

    def type(self, name: str) -> ProviderType:
        """Raises InvalidValue, with the types there are."""

    def check(self, provider: Provider, api_key: str | None) -> None:
        """Raises InvalidValue, EgressRefused."""


class KeyVariables(Protocol):
    """The variables of the runtime's environment that may be named as a provider's key."""

    def read(self, variable: str) -> str:
        """Raises InvalidValue for one that is not to be named, is not set, or is empty."""
