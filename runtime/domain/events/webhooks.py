from dataclasses import dataclass

from runtime.domain.events.base import Event


@dataclass(frozen=True, slots=True)
class DeliveriesQueued(Event):
    """Webhooks are due."""
