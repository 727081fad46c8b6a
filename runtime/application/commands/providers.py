from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from runtime.domain.entities.providers import ProviderModel
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.limits import Price
from runtime.domain.value_objects.providers import Capabilities, Fallback, Routing, Tuning


@dataclass(frozen=True, slots=True)
class GivenKey:
    """The key itself, or the variable it stands in; neither: the provider has none."""

    text: str | None = field(default=None, repr=False)
    variable: str | None = None


NO_KEY = GivenKey()


class ProviderFields(TypedDict, total=False):
    """Of a provider; what is left out stays as it is."""

    type: str
    base_url: str | None
    default_model: str | None
    default_embedding_model: str | None
    formats: frozenset[str] | None
    options: Mapping[str, object]
    tuning: Tuning
    enabled: bool


class ModelFields(TypedDict, total=False):
    upstream_name: str
    display_name: str
    capabilities: Capabilities
    enabled: bool
    fallbacks: tuple[Fallback, ...]
    routing: Routing
    weight: int


@dataclass(frozen=True, slots=True)
class PricedModel:
    model: ProviderModel
    price: Price | None = None
    """None: what was set before stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterProvider:
    actor: Principal
    id: str
    type: str
    fields: ProviderFields
    key: GivenKey = NO_KEY
    models: Sequence[PricedModel] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeProvider:
    actor: Principal
    id: str
    fields: ProviderFields
    key: GivenKey | None = None
    """None: it stays."""
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveProvider:
    actor: Principal
    id: str
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutModel:
    """In place of the one of that name, if there is one."""

    actor: Principal
    provider: str
    priced: PricedModel
    new: bool = False
    """Whether one of that name is refused."""
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeModel:
    actor: Principal
    provider: str
    name: str
    fields: ModelFields
    price: Price | None = None
    """None: it stays."""
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveModel:
    actor: Principal
    provider: str
    name: str
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TryProvider:
    actor: Principal
    id: str
    model: str | None = None
    """None: its default."""
