import logging
from collections.abc import Callable, Sequence

from runtime.domain.services.signals import RunSignals, Signal

logger = logging.getLogger(__name__)


class LocalSignals(RunSignals):
    """Within one process."""

    def __init__(self) -> None:
        self.prompt = True
        self._subscribers: list[Callable[[Signal], None]] = []

    def subscribe(self, heard: Callable[[Signal], None]) -> None:
        self._subscribers.append(heard)

    def tell(self, signals: Sequence[Signal]) -> None:
        for signal in signals:
            for heard in self._subscribers:
                try:
                    heard(signal)
                # Others hear it all the same.
                except Exception:
                    logger.exception("a signal could not be heard")

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
