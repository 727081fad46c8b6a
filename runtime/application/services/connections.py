"""Connections that stay open: how many each caller has, and whether they may still be there."""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from runtime.domain.errors import DatabaseUnavailable, RateLimited, Unauthenticated
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import ProjectId

logger = logging.getLogger(__name__)

RECHECK_EVERY_S = 1.0
"""With the time that an authenticator believes what it knows, within the 5 s of a revocation."""


@dataclass(frozen=True, slots=True)
class ConnectionFigures:
    open: int = 0
    total: int = 0
    requests: int = 0
    """That go on."""


class OpenConnection(Protocol):
    @property
    def requests(self) -> int:
        """That go on."""

    async def recheck(self) -> None:
        """Authenticate again. Raises Unauthenticated, DatabaseUnavailable."""

    def revoked(self, error: Unauthenticated) -> None:
        """The credential is not good any more: end it."""

    def drain(self) -> None:
        """End it as soon as nothing goes on in it."""


class Connections:
    def __init__(self, per_user: int) -> None:
        self._per_user = per_user
        self._open: dict[OpenConnection, ProjectId] = {}
        self._by_user: Counter[tuple[str, str]] = Counter()
        self._total: Counter[ProjectId] = Counter()
        self._task: asyncio.Task[None] | None = None
        self.draining = False

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: OpenConnection, caller: Principal) -> None:
        """Raises RateLimited."""
        user = (caller.project_id, caller.user_id)
        if self._by_user[user] >= self._per_user:
            raise RateLimited(
                f"You have {self._per_user} connections already, which is the most.",
                retry_after_s=1,
            )
        self._by_user[user] += 1
        self._total[caller.project_id] += 1
        self._open[connection] = caller.project_id
        if self._task is None:
            self._task = asyncio.create_task(self._look_again(), name="connection-rechecks")
        if self.draining:
            connection.drain()

    def leave(self, connection: OpenConnection, caller: Principal) -> None:
        if connection not in self._open:
            return
        del self._open[connection]
        user = (caller.project_id, caller.user_id)
        self._by_user[user] -= 1
        if not self._by_user[user]:
            del self._by_user[user]

    def figures(self, project: ProjectId) -> ConnectionFigures:
        """Since this process began."""
        its = [connection for connection, owner in self._open.items() if owner == project]
        requests = sum(connection.requests for connection in its)
        return ConnectionFigures(len(its), self._total[project], requests)

    def drain(self) -> None:
        self.draining = True
        for connection in list(self._open):
            connection.drain()

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_EVERY_S)
            for connection in list(self._open):
                try:
                    await connection.recheck()
                except Unauthenticated as error:
                    connection.revoked(error)
                except DatabaseUnavailable:
                    break  # nobody can be looked up; who is known stays for the time being
                # The loop outlives a connection whose check fails.
                except Exception:
                    logger.exception("a connection could not be checked again")
