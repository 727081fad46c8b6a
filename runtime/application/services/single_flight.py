import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """However many ask for the same thing at once, one looks, and all get what it finds.

    Who leaves does not stop it for the others. Nothing is remembered, a failure neither.
    """

    def __init__(self) -> None:
        self._going: dict[K, asyncio.Task[V]] = {}

    async def __call__(self, key: K, look: Callable[[], Coroutine[Any, Any, V]]) -> V:
        task = self._going.get(key)
        if task is None:
            task = self._going[key] = asyncio.create_task(look())
            task.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(task)

    def _ended(self, key: K, task: asyncio.Task[V]) -> None:
        del self._going[key]
        if not task.cancelled():
            # All who asked may be gone.
            task.exception()
