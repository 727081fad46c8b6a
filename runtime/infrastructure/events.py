import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from runtime.domain.events.base import Event

logger = logging.getLogger(__name__)

E = TypeVar("E", bound=Event)


class EventBus:
    """In-process publication: a crash between commit and delivery loses the event.

    What must survive is a row written in the same transaction (an outbox), not an event here.
    """

    def __init__(self) -> None:
        self._subscribers: dict[type[Event], list[Callable[[Any], Awaitable[None]]]] = defaultdict(
            list
        )

    def subscribe(self, kind: type[E], subscriber: Callable[[E], Awaitable[None]]) -> None:
        """To events of this type and of its subtypes."""
        self._subscribers[kind].append(subscriber)

    async def publish(self, event: Event) -> None:
        for kind in type(event).__mro__:
            for subscriber in self._subscribers.get(kind, ()):
                try:
                    await subscriber(event)
                # The command has committed: a failing subscriber is logged, never raised.
                except Exception:
                    logger.exception("subscriber %r failed on %r", subscriber, event)
