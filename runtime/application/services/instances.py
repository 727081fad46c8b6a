import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic

from runtime.application.services.single_flight import SingleFlight
from runtime.domain.entities.agents import Agent
from runtime.domain.services.executor import AgentExecutor, AgentInstance

logger = logging.getLogger(__name__)
Key = tuple[str, str, str, int]
"""Agent id, project, content hash, generation of its template."""


@dataclass(slots=True)
class Lease:
    """An instance in use; it is not closed before the lease is released."""

    instance: AgentInstance
    key: Key
    users: int
    last_used: float
    evicted: bool = False


class InstanceCache:
    """Agent versions made ready to run: built once, shared, closed when idle, full or replaced."""

    def __init__(
        self,
        executor: AgentExecutor,
        *,
        size: int,
        idle_s: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._executor = executor
        self._size = size
        self._idle_s = idle_s
        self._clock = clock
        self._entries: OrderedDict[Key, Lease] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._building: SingleFlight[Key, AgentInstance] = SingleFlight()
        self.hits = self.misses = self.builds = self.failed_builds = self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def lease(self, agent: Agent) -> Lease:
        """Raises what AgentExecutor.build raises; a failure is not remembered."""
        spec = agent.spec
        generation = self._executor.generation(agent)
        key = (agent.id, agent.project_id, spec.content_hash, generation)
        entry = self._entries.get(key)
        if entry is not None:
            self.hits += 1
        else:
            self.misses += 1
            instance = await self._building(key, partial(self._build, agent))
            entry = self._entries.get(key)
            if entry is None:
                entry = Lease(instance, key, 0, self._clock())
                self._entries[key] = entry
        entry.users += 1
        self._entries.move_to_end(key)
        self._evict_surplus()
        return entry

    def release(self, lease: Lease) -> None:
        lease.users -= 1
        lease.last_used = self._clock()
        if lease.evicted and not lease.users:
            self._close(lease)

    def sweep(self) -> None:
        """Close what has been idle for too long."""
        limit = self._clock() - self._idle_s
        for entry in list(self._entries.values()):
            if not entry.users and entry.last_used < limit:
                self._evict(entry)

    def drop(self, agent_id: str) -> None:
        """Forget every instance of an agent version; runs on it go on."""
        for entry in list(self._entries.values()):
            if entry.key[0] == agent_id:
                self._evict(entry)

    async def aclose(self) -> None:
        for entry in list(self._entries.values()):
            self._evict(entry)
        await asyncio.gather(*self._closing)

    async def _build(self, agent: Agent) -> AgentInstance:
        self.builds += 1
        try:
            return await self._executor.build(agent)
        except BaseException:
            self.failed_builds += 1
            raise

    def _evict_surplus(self) -> None:
        while len(self._entries) > self._size:
            idle = next((e for e in self._entries.values() if not e.users), None)
            if idle is None:
                return
            self._evict(idle)

    def _evict(self, entry: Lease) -> None:
        self._entries.pop(entry.key, None)
        self.evictions += 1
        entry.evicted = True
        if not entry.users:
            self._close(entry)

    def _close(self, entry: Lease) -> None:
        task = asyncio.create_task(self._closed(entry))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _closed(self, entry: Lease) -> None:
        try:
            await entry.instance.aclose()
        # A template's clean-up is its own affair.
        except Exception:
            logger.exception("an instance of agent %s did not close", entry.key[0])
