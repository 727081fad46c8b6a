from dataclasses import dataclass

from runtime.domain.repositories.durable import RunQueue
from runtime.domain.services.liveness import Heartbeat
from runtime.domain.services.signals import RunSignals
from runtime.domain.value_objects.ids import WorkerId


@dataclass(frozen=True)
class Ground:
    """What the dispatcher of a process stands on."""

    queue: RunQueue
    signals: RunSignals
    heart: Heartbeat
    worker: WorkerId
