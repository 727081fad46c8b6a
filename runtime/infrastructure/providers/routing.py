"""In which order a model and those that stand in for it are called."""

import random
from collections.abc import Sequence

from runtime.domain.value_objects.providers import Routing
from runtime.infrastructure.providers.live import LiveModel

Weighted = tuple[LiveModel, int]


def ordered(peers: Sequence[Weighted], routing: Routing) -> list[LiveModel]:
    """One whose breaker is open keeps its place: not calling it costs nothing."""
    match routing:
        case Routing.FIRST_HEALTHY:
            return [model for model, _ in peers]
        case Routing.LEAST_LATENCY:
            return sorted((model for model, _ in peers), key=_latency)
        case Routing.WEIGHTED:
            return _drawn(peers)


def _latency(model: LiveModel) -> float:
    """One that was never called comes first: else it never would be."""
    known = model.calls.smoothed_first_s
    return -1.0 if known is None else known


def _drawn(peers: Sequence[Weighted]) -> list[LiveModel]:
    """The larger its weight, the sooner, without putting back (Efraimidis and Spirakis, 2006)."""
    drawn = [(random.random() ** (1 / weight), model) for model, weight in peers]
    return [model for _, model in sorted(drawn, key=lambda each: each[0], reverse=True)]
