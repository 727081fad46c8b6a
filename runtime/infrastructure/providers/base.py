from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from runtime.domain.errors import InvalidValue
from runtime.domain.services.models import EmbeddingCall, ModelCall, ModelEvent
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.infrastructure.egress import EgressClient

OPENAI_EMBEDDING_MODELS = (
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
)
"""What stock clients ask for when nobody tells them otherwise."""


class Provider(Protocol):
    """One LLM endpoint. The model service retries, estimates usage and keeps the order."""

    @property
    def name(self) -> str:
        """What stands before the slash in `provider/name`."""

    @property
    def default_model(self) -> str:
        """The model meant by the provider's name alone."""

    @property
    def formats(self) -> Collection[str]:
        """The types of `response_format` that its models keep to by themselves."""

    def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        """One attempt: deltas, UsageReported if the provider counts, ModelFinished.

        An answer cut short raises. Closing the generator closes the connection at once.
        Raises UpstreamRefused, UpstreamRateLimited, UpstreamFailed, UpstreamTimeout, and
        InvalidValue or UnsupportedParameter for what the provider has no words for.
        """

    async def aclose(self) -> None: ...


@runtime_checkable
class EmbeddingProvider(Protocol):
    """What a provider has that also embeds."""

    @property
    def default_embedding_model(self) -> str:
        """The one meant by the provider's name alone."""

    @property
    def embedding_models(self) -> Collection[str]:
        """Those that are known to be there; a provider may have more."""

    async def embed(self, call: EmbeddingCall, model: str) -> Embeddings:
        """One attempt. Raises EmbeddingModelNotFound and what `Provider.stream` raises."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a provider is waited for, from the call on."""

    connect_s: float = 10
    first_token_s: float = 60
    """To the first piece of a streamed answer."""
    idle_s: float = 60
    """Of silence between two pieces."""
    answer_s: float = 300
    """An answer that is not streamed."""
    total_s: float = 600
    """A streamed one, as a whole."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How one provider is reached."""

    name: str
    """What stands before the slash in `provider/name`."""
    base_url: str | None = None
    """None: the type's own."""
    api_key: str | None = field(default=None, repr=False)
    default_model: str | None = None
    """None: the type's own."""
    default_embedding_model: str | None = None
    formats: frozenset[str] | None = None
    """Types of `response_format` that its models keep to; None: the type's own."""
    options: Mapping[str, object] = field(default_factory=dict)
    """The type's own, such as azure's `api_version`."""
    timeouts: Timeouts = Timeouts()


class ProviderAdapter(ABC):
    """A type of provider; an instance is one that is configured. Subclass it for your own."""

    type: ClassVar[str]
    """What a registration names."""
    default_base_url: ClassVar[str | None] = None
    needs_key: ClassVar[bool] = False
    """Whether its own address wants a key; another one, such as a gateway, may do without."""
    usual_model: ClassVar[str]
    """The default model of a connection that names none."""
    usual_formats: ClassVar[frozenset[str]] = frozenset()
    option_names: ClassVar[frozenset[str]] = frozenset()
    """The keys of `Connection.options` that it knows."""

    def __init__(self, egress: EgressClient, connection: Connection) -> None:
        """Called by `connect` with what is checked already. No I/O."""
        self.name = connection.name
        self.default_model = connection.default_model or self.usual_model
        self.formats: Collection[str] = self.usual_formats
        if connection.formats is not None:
            self.formats = connection.formats

    @classmethod
    def connect(cls, egress: EgressClient, connection: Connection) -> Provider:
        """No I/O. Raises InvalidValue with `param` `base_url`, `api_key` or `options`, and
        EgressRefused."""
        if unknown := connection.options.keys() - cls.option_names:
            known = ", ".join(sorted(cls.option_names)) or "none"
            raise InvalidValue(
                f"The provider type '{cls.type}' has no option '{min(unknown)}'; it has: {known}.",
                param="options",
            )
        foreign = connection.base_url is not None and cls.default_base_url is not None
        if cls.needs_key and not connection.api_key and not foreign:
            raise InvalidValue(f"The provider type '{cls.type}' needs a key.", param="api_key")
        return cls(egress, connection)

    @classmethod
    def base_url_of(cls, connection_base_url: str | None) -> str | None:
        """The address that is called; None for a type that calls none."""
        return cls.default_base_url if connection_base_url is None else connection_base_url

    @abstractmethod
    def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        """See `Provider.stream`."""

    async def aclose(self) -> None:  # noqa: B027 - most hold nothing
        """Closes what is held."""


def text_option(connection: Connection, name: str) -> str | None:
    """Raises InvalidValue."""
    value = connection.options.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InvalidValue(f"The option '{name}' is a text.", param="options")


def number_option(connection: Connection, name: str, default: float, *, least: float = 0) -> float:
    """Raises InvalidValue."""
    value = connection.options.get(name, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= least:
        return value
    raise InvalidValue(f"The option '{name}' is a number, at least {least:g}.", param="options")
