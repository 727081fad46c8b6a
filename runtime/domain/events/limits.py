from dataclasses import dataclass

from runtime.domain.events.base import Event


@dataclass(frozen=True, slots=True)
class RulesChanged(Event):
    """A limit, a budget or a price."""
