import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from watchfiles import awatch

from runtime.infrastructure.frameworks.discovery import TemplateFolder

logger = logging.getLogger(__name__)


class TemplateWatcher:
    """Loads the template folders, then again whenever a file in them changes."""

    def __init__(self, folders: Sequence[TemplateFolder]) -> None:
        self._folders = folders
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.sync()
        if self._folders:
            self._task = asyncio.create_task(self._watch(), name="template-watcher")

    async def sync(self) -> None:
        for folder in self._folders:
            await asyncio.to_thread(folder.sync)

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        paths = [folder.path for folder in self._folders]
        # The time-out is for file systems that report no changes, and for one made meanwhile.
        changes = awatch(*paths, debounce=300, step=50, rust_timeout=10_000, yield_on_timeout=True)
        async for _ in changes:
            try:
                await self.sync()
            # The watcher outlives an unreadable file or a folder that is being replaced.
            except Exception:
                logger.exception("template folders could not be read")
