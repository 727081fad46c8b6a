"""uvicorn as the runtime runs it, from the first connection to an orderly end."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from types import FrameType
from typing import Any

import uvicorn

from runtime.infrastructure.container import Container
from runtime.infrastructure.lifespan import running
from runtime.infrastructure.web.app import create_app
from runtime.infrastructure.web.doorkeeper import Bounds, Doorkeeper

logger = logging.getLogger(__name__)

LAST_WORDS_S = 1.0
"""For the error event of a stream that is cut to reach its client, beyond the grace period."""
CLOSE_S = 10.0
"""For the records of the runs to be written, and all that is open to be closed."""
POLL_S = 0.05


class DrainingServer(uvicorn.Server):
    """Opens what the container holds before it accepts, and closes it after the last answer.

    Told to stop, it first says so on /readyz, then refuses new runs and lets the others finish,
    cuts those that outlast the grace period, with an error event, and only then stops to listen.
    """

    def __init__(
        self,
        container: Container,
        on_ready: Callable[[], None],
        **options: Any,  # noqa: ANN401 - uvicorn's
    ) -> None:
        settings = container.settings()
        self._container = container
        self._engine = container.run_engine()
        self._on_ready = on_ready
        self._delay_s, self._grace_s = settings.drain_delay_s, settings.grace_s
        self._keeper = Doorkeeper(Bounds.of(settings))
        self._opened = AsyncExitStack()
        self.forced_by = 0
        """The signal that did not let it finish."""
        config = uvicorn.Config(
            create_app(container),
            http=self._keeper.http,
            ws="none",  # the protocol above brings its own
            ws_max_size=settings.ws_max_frame_bytes,
            ws_ping_timeout=settings.send_timeout_s,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=1,
            **options,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._opened.enter_async_context(running(self._container))
        try:
            await super().startup(sockets)
        except BaseException:
            await self._opened.aclose()
            raise
        if not self.should_exit:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        await super().shutdown(sockets)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._opened.aclose()
        except TimeoutError:
            logger.error("not everything could be closed within %s s", CLOSE_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets running answers finish, the second cuts them, the third does not
        even wait for the records of the runs: it works when the loop hangs.

        Unlike the original it does not raise the signal again at the end: an ordered stop is
        no failure, and exits with 0.
        """
        if self.forced_by:
            os._exit(128 + sig)
        if self.should_exit:
            self.forced_by = sig
        self.should_exit = True
        self._say_no()

    def _say_no(self) -> None:
        self._keeper.draining = True
        self._engine.admission.welcoming = False
        self._engine.admission.open = self._delay_s > 0

    async def _drain(self) -> None:
        self._say_no()
        await self._until(lambda: bool(self.forced_by), self._delay_s)
        self._engine.admission.open = False
        await self._container.dispatcher().stop()
        self._container.run_worker().drain()
        self._container.connections().drain()
        await self._until(lambda: self._idle() or bool(self.forced_by), self._grace_s)
        self._engine.cancel_all()
        self._container.run_logs().closing = True
        await self._until(self._idle, LAST_WORDS_S)

    def _idle(self) -> bool:
        return not (self._engine.active or self.server_state.tasks)

    async def _until(self, condition: Callable[[], bool], within_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not condition():  # noqa: ASYNC110 - a signal handler can't set an Event
                    await asyncio.sleep(POLL_S)
