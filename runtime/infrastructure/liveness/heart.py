"""A thread that says of its process that it lives, however busy the event loop is."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Event, Lock, Thread

from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.durable import WorkerBeats
from runtime.domain.services.liveness import KNOWN_TO_BE_GONE_S, Heartbeat
from runtime.domain.value_objects.ids import WorkerId

logger = logging.getLogger(__name__)

EVERY_S = 1.0
RETRY_S = 0.25
FRESH_S = 1.5
"""A beat of which others will not soon ask where the next one is."""
GAP_S = 2.0
"""Beats further apart than this were not without a gap."""
LEASE_S = 3.0
STOP_WAIT_S = 5.0


def clock() -> float:
    """Seconds, those included in which the machine slept."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Heart(Heartbeat):
    """Beats each second while it is held; else it only looks whether the database is there, and
    which of the workers beside it are not."""

    def __init__(
        self,
        beats: WorkerBeats,
        worker: WorkerId,
        *,
        every_s: float = EVERY_S,
        lease_s: float = LEASE_S,
        now: Callable[[], float] = clock,
    ) -> None:
        self._beats = beats
        self._worker = worker
        self._every_s = every_s
        self._lease_s = lease_s
        self._now = now
        self._lock = Lock()
        self._holds = 0
        self._waiting: list[Future[None]] = []
        self._nudge = Event()
        self._stopped = False
        self._thread: Thread | None = None
        self._reached: tuple[float, float] | None = None
        """When the database was there first without a gap since, and last."""
        self._beat_at: float | None = None
        self._beaten = False

    async def start(self) -> None:
        """Returns after the first look, whatever became of it."""
        looked: Future[None] = Future()
        self._waiting.append(looked)
        self._thread = Thread(target=self._live, name="heart", daemon=True)
        self._thread.start()
        with suppress(DatabaseUnavailable, TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(looked), STOP_WAIT_S)

    async def stop(self) -> None:
        self._stopped = True
        self._nudge.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_WAIT_S)

    def hold(self) -> None:
        with self._lock:
            self._holds += 1

    def release(self) -> None:
        with self._lock:
            self._holds -= 1

    async def felt(self) -> None:
        if self._beat_at is not None and self._now() - self._beat_at <= FRESH_S * self._every_s:
            return
        felt: Future[None] = Future()
        with self._lock:
            self._waiting.append(felt)
        self._nudge.set()
        await asyncio.wrap_future(felt)

    @property
    def beating_for_s(self) -> float:
        reached = self._reached
        if reached is None or self._now() - reached[1] > GAP_S * self._every_s:
            return 0.0
        return reached[1] - reached[0]

    @property
    def silence_s(self) -> float:
        return self._lease_s if self.beating_for_s > self._lease_s else KNOWN_TO_BE_GONE_S

    def _live(self) -> None:
        failures = 0
        while not self._stopped:
            with self._lock:
                waiting, self._waiting = self._waiting, []
                held = self._holds > 0
            began = self._now()
            try:
                self._tick(began, held)
                failures = 0
                _answer(waiting, None)
            # The heart outlives whatever keeps one beat back.
            except Exception as error:
                if not failures:
                    logger.warning("this process can't say that it lives", exc_info=True)
                failures += 1
                self._reached = self._beat_at = None
                _answer(waiting, error)
            self._nudge.wait(RETRY_S if failures else self._every_s)
            self._nudge.clear()
        self._leave()

    def _tick(self, began: float, held: bool) -> None:
        if held:
            self._beats.beat(self._worker)
            self._beaten = True
            # Before it was sent: no later than what the database says.
            self._beat_at = began
        self._beats.look()
        at, reached = self._now(), self._reached
        gap = reached is None or at - reached[1] > GAP_S * self._every_s
        self._reached = (at, at) if reached is None or gap else (reached[0], at)

    def _leave(self) -> None:
        try:
            if self._beaten:
                self._beats.leave(self._worker)
        except Exception:
            logger.warning("this worker's row stays until it is forgotten", exc_info=True)
        finally:
            self._beats.close()
            with self._lock:
                waiting, self._waiting = self._waiting, []
            _answer(waiting, RuntimeError("the heart has stopped"))


def _answer(waiting: list[Future[None]], error: Exception | None) -> None:
    for each in waiting:
        if not each.set_running_or_notify_cancel():
            continue
        if error is None:
            each.set_result(None)
        else:
            unavailable = DatabaseUnavailable()
            unavailable.__cause__ = error
            each.set_exception(unavailable)
