from dataclasses import dataclass

from runtime.domain.events.base import Event


@dataclass(frozen=True, slots=True)
class ProvidersChanged(Event):
    """A provider was registered, changed or removed."""
