from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from runtime.domain.errors import ProviderModelNotFound
from runtime.domain.events.base import Event
from runtime.domain.events.providers import ProvidersChanged
from runtime.domain.value_objects.ids import ProjectId, ProviderId, UserId
from runtime.domain.value_objects.providers import (
    AS_CONFIGURED,
    NOTHING_KNOWN,
    Capabilities,
    EnvironmentKey,
    Fallback,
    Routing,
    Tuning,
)
from runtime.domain.value_objects.secrets import SealedSecret

ProviderMark = tuple[int, datetime]
"""Another mark, another state of the provider, also of one registered anew under the same id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderModel:
    """One model of a provider. Agents name it `provider/name`."""

    name: str
    upstream_name: str
    """What the provider itself calls it."""
    display_name: str = ""
    capabilities: Capabilities = NOTHING_KNOWN
    enabled: bool = True
    fallbacks: tuple[Fallback, ...] = ()
    routing: Routing = Routing.FIRST_HEALTHY
    weight: int = 1


@dataclass(kw_only=True, eq=False)
class Provider:
    """An LLM endpoint that a project registered, with its key and its models.

    Models that are not registered can be called all the same, under the provider's own names.
    """

    id: ProviderId
    project_id: ProjectId
    owner_id: UserId
    """Who registered it."""
    type: str
    """Of the adapter that speaks its wire."""
    base_url: str | None = None
    """None: the type's own."""
    key: EnvironmentKey | SealedSecret | None = None
    default_model: str | None = None
    """The one meant by the provider's id alone; None: the type's own."""
    default_embedding_model: str | None = None
    formats: frozenset[str] | None = None
    """Types of `response_format` that its models keep to by themselves; None: the type's own."""
    options: Mapping[str, object] = field(default_factory=dict)
    """The type's own, such as `api_version`."""
    tuning: Tuning = AS_CONFIGURED
    enabled: bool = True
    models: tuple[ProviderModel, ...] = ()
    created_at: datetime
    updated_at: datetime
    revision: int = 1
    events: list[Event] = field(default_factory=list, repr=False)

    @property
    def etag(self) -> str:
        return f'"{self.revision}-{int(self.created_at.timestamp() * 1_000)}"'

    @property
    def mark(self) -> ProviderMark:
        return self.revision, self.updated_at

    def model(self, name: str) -> ProviderModel:
        """Raises ProviderModelNotFound."""
        for model in self.models:
            if model.name == name:
                return model
        raise ProviderModelNotFound(f"{self.id}/{name}")

    def put_model(self, model: ProviderModel, at: datetime) -> None:
        """In place of the one of that name, if there is one."""
        others = tuple(each for each in self.models if each.name != model.name)
        self.models = tuple(sorted((*others, model), key=lambda each: each.name))
        self.touch(at)

    def remove_model(self, name: str, at: datetime) -> None:
        """Raises ProviderModelNotFound."""
        gone = self.model(name)
        self.models = tuple(each for each in self.models if each is not gone)
        self.touch(at)

    def touch(self, at: datetime) -> None:
        self.updated_at = at
        self.events.append(ProvidersChanged())
