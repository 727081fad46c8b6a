"""Who may write to a session now: one turn at a time, over all replicas."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any

from runtime.application.services.batches import Batches
from runtime.domain.entities.sessions import Session
from runtime.domain.errors import ConcurrentChange, DatabaseUnavailable, DomainError, SessionBusy
from runtime.domain.repositories.sessions import (
    Addition,
    SessionHolds,
    SessionKey,
    SessionLog,
    SessionName,
    TakeSession,
    WriteTurn,
)
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import Principal, Scope
from runtime.domain.value_objects.ids import ProjectId, SessionId, UserId, new_session_id, uuid7_hex

logger = logging.getLogger(__name__)

HOLD_S = 15.0
"""How long a session stays held by a replica that has died."""
RENEW_EVERY_S = 5.0
POLL_EVERY_S = 0.075
"""How often it is looked whether another replica has let go of a session."""

_QueueKey = tuple[ProjectId, UserId, SessionKey]


@dataclass(slots=True)
class Hold:
    """A session that is ours to write to, until it is ended."""

    session: Session
    holder: str
    scope: Scope
    _queue: "_Queue | None"
    """None where it was had without standing in line."""
    written: bool = False
    """What ended the hold in the store as well."""


@dataclass(slots=True)
class _Queue:
    """Those of this process who want one session: the first one has it."""

    key: _QueueKey
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


@dataclass
class SessionDesk:
    """Hands sessions out. Those who wait are served in their order, and at once when the one
    before them is in the same process."""

    uow: UnitOfWorkFactory
    log: SessionLog
    holds: SessionHolds
    now: Callable[[], datetime]
    refuse: bool = False
    """Say that a session is held, instead of waiting for it."""
    wait_s: float = 30.0
    hold_s: float = HOLD_S
    renew_every_s: float = RENEW_EVERY_S
    _queues: dict[_QueueKey, _Queue] = field(default_factory=dict)
    _held: dict[SessionId, str] = field(default_factory=dict)
    _renewing: asyncio.Task[None] | None = None
    _abandoned: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._batches = Batches(self.log.apply)

    @property
    def active(self) -> int:
        return len(self._held)

    async def take(self, caller: Principal, key: SessionKey, holder: str | None = None) -> Hold:
        """A session by a name is begun when there is none. Whoever takes it as the same `holder`
        again has it. Raises ConversationNotFound, SessionBusy."""
        until = monotonic() + (0 if self.refuse else self.wait_s)
        # Whoever is first in line here may be waiting for what this holder left behind.
        if holder and (session := await self._try_once(caller.scope, key, holder)):
            return self._had(session, holder, caller.scope, None)
        queue = await self._first_in_line((caller.project_id, caller.user_id, key), until)
        holder = holder or uuid7_hex()
        try:
            while (session := await self._try_once(caller.scope, key, holder)) is None:
                if monotonic() >= until:
                    raise SessionBusy
                await asyncio.sleep(POLL_EVERY_S)
        except BaseException:
            self._leave(queue)
            raise
        return self._had(session, holder, caller.scope, queue)

    def _had(self, session: Session, holder: str, scope: Scope, queue: _Queue | None) -> Hold:
        self._held[session.id] = holder
        return Hold(session, holder, scope, queue)

    async def write(self, hold: Hold, addition: Addition, at: datetime) -> None:
        """In a transaction of its own. Raises ConcurrentChange."""
        turn = WriteTurn(hold.scope, hold.session, hold.holder, addition, at)
        if not await self._batches.do(turn):
            raise ConcurrentChange(f"Conversation '{hold.session.id}'")
        hold.written = True

    async def end(self, hold: Hold) -> None:
        self._held.pop(hold.session.id, None)
        try:
            if not hold.written:
                await self._give_back(hold.scope, hold.session.id, hold.holder)
        finally:
            if hold._queue:
                self._leave(hold._queue)

    @asynccontextmanager
    async def taken(self, caller: Principal, key: SessionKey) -> AsyncIterator[Hold]:
        hold = await self.take(caller, key)
        try:
            yield hold
        finally:
            await self.end(hold)

    def start(self) -> None:
        self._renewing = asyncio.create_task(self._renew(), name="session-holds")

    async def stop(self) -> None:
        if self._renewing:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        await asyncio.gather(*self._abandoned)
        await self._batches.settled()

    async def _first_in_line(self, key: _QueueKey, until: float) -> _Queue:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue(key)
        queue.users += 1
        try:
            if queue.lock.locked():
                async with asyncio.timeout(max(0, until - monotonic())):
                    await queue.lock.acquire()
            else:
                await queue.lock.acquire()
        except BaseException as error:
            self._drop(queue)
            if isinstance(error, TimeoutError):
                raise SessionBusy from error
            raise
        return queue

    def _leave(self, queue: _Queue) -> None:
        queue.lock.release()
        self._drop(queue)

    def _drop(self, queue: _Queue) -> None:
        queue.users -= 1
        if not queue.users:
            del self._queues[queue.key]

    async def _try_once(self, scope: Scope, key: SessionKey, holder: str) -> Session | None:
        try:
            return await self._try(scope, key, holder)
        except asyncio.CancelledError:
            # The store may have said yes to a question whose answer nobody waited for.
            self._in_background(self._give_back(scope, key, holder))
            raise

    async def _try(self, scope: Scope, key: SessionKey, holder: str) -> Session | None:
        begin = self._begun(scope, key) if isinstance(key, SessionName) else None
        found = await self._batches.do(TakeSession(scope, key, holder, self.hold_s, begin))
        if isinstance(found, DomainError):
            raise found
        assert found is None or isinstance(found, Session)
        return found

    def _begun(self, scope: Scope, key: SessionName) -> Session:
        now = self.now()
        return Session(
            id=new_session_id(),
            project_id=scope.project_id,
            owner_id=scope.user_id,
            line_id=key.line_id,
            name=key.name,
            created_at=now,
            updated_at=now,
        )

    async def _give_back(self, scope: Scope, key: SessionKey, holder: str) -> None:
        """Where it can't be done, the hold ends by itself."""
        try:
            async with self.uow(scope) as work:
                session = await work.sessions.find(key) if isinstance(key, SessionName) else None
                id = session.id if session else key
                if not isinstance(id, SessionName):
                    await work.sessions.release(id, holder)
                    await work.commit()
        except DatabaseUnavailable:
            logger.warning("a session stays held for %g s: the database is away", self.hold_s)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.renew_every_s)
            held: Mapping[SessionId, str] = dict(self._held)
            try:
                await self.holds.renew(held, self.hold_s)
            except DatabaseUnavailable:
                logger.warning("%d sessions could not be held on to", len(held))
