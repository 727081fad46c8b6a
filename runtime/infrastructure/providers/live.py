"""Providers and models as they are called: each with its breaker, its places and its figures."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from runtime.domain.entities.providers import ProviderMark, ProviderModel
from runtime.domain.errors import UpstreamMisconfigured
from runtime.domain.services.models import HealthStatus, ModelCall, ModelHealth, ProviderHealth
from runtime.domain.services.monitor import CallEnd
from runtime.domain.value_objects.chat import ImagePart
from runtime.domain.value_objects.ids import ProjectId
from runtime.domain.value_objects.providers import Tuning
from runtime.infrastructure.providers.base import Provider
from runtime.infrastructure.providers.breaker import CircuitBreaker, Outcome
from runtime.infrastructure.providers.statistics import CallStatistics

MOST_MODELS = 1_000
"""That are remembered of a provider; callers may name models that nobody registered."""
DEFAULTS = Tuning(
    attempts=3,
    breaker_threshold=5,
    breaker_recovery_s=30.0,
)


class LiveModel:
    """One model of one provider. Agents name it `provider/name`."""

    def __init__(self, provider: "LiveProvider", spec: ProviderModel) -> None:
        self.provider = provider
        self.spec = spec
        self.name = f"{provider.id}/{spec.name}"
        self.calls = CallStatistics()
        self.breaker = provider.new_breaker()

    @property
    def enabled(self) -> bool:
        return self.spec.enabled and self.provider.enabled

    @property
    def admits(self) -> bool:
        """Whether a call of it could begin now."""
        return self.breaker.admits and not self.provider.is_full

    @property
    def formats(self) -> Sequence[str]:
        """The types of `response_format` that it keeps to by itself."""
        if self.spec.capabilities.json_mode is False:
            return ()
        with suppress(UpstreamMisconfigured):
            return tuple(self.provider.adapter.formats)
        return ()

    def lacks(self, call: ModelCall) -> str | None:
        """What the call asks of it that it can't do, as the name of the parameter."""
        able = self.spec.capabilities
        if able.tools is False and call.options.tools:
            return "tools"
        if able.vision is False and _has_image(call):
            return "messages"
        return None

    def began(self) -> None:
        self.provider.active += 1
        self.provider.places.taken += 1
        self.calls.began()

    def ended(self, end: CallEnd, outcome: Outcome, *, at_fault: bool, probe: bool) -> None:
        self.provider.active -= 1
        self.provider.places.taken -= 1
        self.calls.ended(end, at_fault=at_fault)
        self.breaker.leave(outcome, probe=probe)

    def health(self) -> ModelHealth:
        calls = self.calls
        return ModelHealth(
            model=self.name,
            breaker=self.breaker.state,
            requests=calls.requests,
            errors=calls.errors,
            fallbacks=calls.fallbacks,
            active=calls.active,
            first_token_ms=calls.first_token_ms,
            latency_ms=calls.latency_ms,
            usage=calls.usage,
            last_error=calls.last_error,
        )


class AdapterSource(Protocol):
    @property
    def id(self) -> str: ...

    def __call__(self) -> Provider:
        """Raises UpstreamMisconfigured."""

    async def aclose(self) -> None: ...


@dataclass(slots=True)
class Places:
    """Calls under way to a provider, also those that began before it was changed."""

    taken: int = 0


@dataclass(eq=False)
class LiveProvider:
    source: AdapterSource
    type: str
    tuning: Tuning = DEFAULTS
    """Complete."""
    registered: Sequence[ProviderModel] = ()
    default_model: str | None = None
    enabled: bool = True
    project: ProjectId | None = None
    """None: the operator's, for every project."""
    mark: ProviderMark | None = None
    """Of what it was made of."""

    def __post_init__(self) -> None:
        self.active = 0
        self.places = Places()
        self.kept = 0
        """By whom may call it yet."""
        self._registered = {each.name: each for each in self.registered}
        self._models: OrderedDict[str, LiveModel] = OrderedDict()

    @property
    def id(self) -> str:
        return self.source.id

    @property
    def adapter(self) -> Provider:
        """Raises UpstreamMisconfigured."""
        return self.source()

    @property
    def in_use(self) -> bool:
        return bool(self.active or self.kept)

    @property
    def is_full(self) -> bool:
        most = self.tuning.max_concurrency
        return most is not None and self.places.taken >= most

    @property
    def models(self) -> Sequence[LiveModel]:
        """Those that were called."""
        return tuple(self._models.values())

    def model(self, name: str | None) -> LiveModel:
        """None: its default. One that is not registered is called under its own name."""
        name = name or self._default()
        live = self._models.get(name)
        if live is None:
            spec = self._registered.get(name) or ProviderModel(name=name, upstream_name=name)
            live = self._models[name] = LiveModel(self, spec)
            self._forget_surplus()
        elif name not in self._registered:
            self._models.move_to_end(name)
        return live

    def _default(self) -> str:
        with suppress(UpstreamMisconfigured):
            return self.default_model or self.adapter.default_model
        return "default"

    def new_breaker(self) -> CircuitBreaker:
        threshold, recovery_s = self.tuning.breaker_threshold, self.tuning.breaker_recovery_s
        assert threshold is not None
        assert recovery_s is not None
        return CircuitBreaker(threshold, recovery_s)

    def take_over(self, before: "LiveProvider") -> None:
        """The figures and places of what it replaces; its breakers start anew, as what failed was
        changed."""
        self.places = before.places
        for known in before.models:
            self.model(known.spec.name).calls = known.calls

    def health(self) -> ProviderHealth:
        called = [model for model in self.models if model.calls.requests]
        return ProviderHealth(
            self.id,
            self._status(called),
            self.type,
            [model.health() for model in called],
            active=self.places.taken,
            project=self.project,
        )

    def _status(self, called: Sequence[LiveModel]) -> HealthStatus:
        if not self.enabled:
            return "disabled"
        stopped = [model for model in called if model.breaker.state != "closed"]
        if stopped and len(stopped) == len(called):
            return "unhealthy"
        ill = stopped or any(model.calls.last_failed for model in called)
        return "degraded" if ill else "healthy"

    def _forget_surplus(self) -> None:
        """The one that was not named for the longest time; those that are registered stay."""
        if len(self._models) > MOST_MODELS:
            unused = (
                name
                for name, each in self._models.items()
                if name not in self._registered and not each.calls.active
            )
            if (name := next(unused, None)) is not None:
                del self._models[name]


@contextmanager
def kept(models: Iterable[LiveModel]) -> Iterator[None]:
    """Their providers stay connected meanwhile, also those that are changed or removed."""
    providers = [model.provider for model in models]
    for each in providers:
        each.kept += 1
    try:
        yield
    finally:
        for each in providers:
            each.kept -= 1


def _has_image(call: ModelCall) -> bool:
    return any(
        isinstance(part, ImagePart)
        for message in call.messages
        if not isinstance(message.content, str)
        for part in message.content
    )
