"""Facts as runs and people write them: bounded, each in its place."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.memories import Fact, FoundFact, MemoryScope
from runtime.domain.errors import Forbidden, InvalidValue, MemoryFull, MemoryNotFound
from runtime.domain.repositories.memories import FactFilter
from runtime.domain.services.executor import RunInput
from runtime.domain.services.memories import MemoryService, RunMemory, ScopeName
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import MemoryId, new_memory_id

MOST_NAMESPACES = 1_000
LONGEST_S = 100 * 365 * 86_400.0


@dataclass(frozen=True)
class MemoryBook(MemoryService):
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    most: int
    """Facts of one user."""

    async def put(self, work: UnitOfWork, fact: Fact) -> Fact:
        """Raises MemoryFull, and what FactRepository.put does."""
        stored = await work.memories.put(fact)
        # Counted afterwards: the write before it keeps other writers of the database waiting.
        if stored.revision == 1 and await work.memories.count(fact.updated_at) > self.most:
            raise MemoryFull(self.most)
        return stored

    def of(self, input: RunInput, agent: Agent, *, shares: bool = False) -> RunMemory:
        return _OfRun(self, input, agent, shares)


@dataclass(frozen=True)
class _OfRun(RunMemory):
    book: MemoryBook
    input: RunInput
    agent: Agent
    shares: bool

    async def remember(
        self,
        text: str,
        *,
        key: str | None = None,
        value: object = None,
        tags: Sequence[str] = (),
        scope: ScopeName = "agent",
        namespace: str = "",
        expires_in_s: float | None = None,
    ) -> Fact:
        self._check_writable(scope)
        now = self.book.now()
        draft = self._draft(text, now, scope, namespace, key, value, tags, expires_in_s)
        async with self._work() as work:
            fact = await self.book.put(work, draft)
            await work.commit()
        return fact

    async def find(
        self, key: str, *, scope: ScopeName = "agent", namespace: str = ""
    ) -> Fact | None:
        now = self.book.now()
        identity = self._draft(key, now, scope, namespace, key).identity
        async with self._work() as work:
            return await work.memories.find(identity, now)

    async def search(
        self,
        query: str,
        *,
        limit: int = 5,
        scope: ScopeName | None = None,
        tag: str | None = None,
        namespace: str = "",
    ) -> Sequence[FoundFact]:
        where = self._where(scope, tag, namespace)
        async with self._work() as work:
            return await work.memories.search(query, where, limit=limit)

    async def list(
        self,
        *,
        limit: int = 50,
        scope: ScopeName | None = None,
        tag: str | None = None,
        namespace: str = "",
    ) -> Sequence[Fact]:
        where = self._where(scope, tag, namespace)
        async with self._work() as work:
            return (await work.memories.page(where, limit=limit, after=None)).items

    async def namespaces(self, *, scope: ScopeName = "agent", namespace: str = "") -> Sequence[str]:
        async with self._work() as work:
            where = self._where(scope, None, namespace)
            return await work.memories.namespaces(where, limit=MOST_NAMESPACES)

    async def forget(
        self, id_or_key: str, *, scope: ScopeName = "agent", namespace: str = ""
    ) -> bool:
        now = self.book.now()
        identity = self._draft(id_or_key, now, scope, namespace, id_or_key).identity
        async with self._work() as work:
            fact = await work.memories.find(identity, now) or await _by_id(work, id_or_key, now)
            if fact is None or not self._knows(fact):
                return False
            self._check_writable(fact.scope.value)
            await work.memories.remove(fact.id)
            await work.commit()
        return True

    def _work(self) -> AbstractAsyncContextManager[UnitOfWork]:
        # The user's own rights only, whatever else they may: an agent is no administrator.
        return self.book.uow(Scope(self.input.project_id, self.input.user_id))

    def _check_writable(self, scope: ScopeName) -> None:
        if scope == "shared" and not self.shares:
            raise Forbidden("This agent's template does not write what a project shares.")

    def _knows(self, fact: Fact) -> bool:
        return fact.line_id in (None, self.agent.line_id)

    def _where(self, scope: ScopeName | None, tag: str | None, namespace: str) -> FactFilter:
        return FactFilter(
            at=self.book.now(),
            scope=None if scope is None else _scope(scope),
            line_id=self.agent.line_id,
            namespace=namespace,
            tag=tag,
        )

    def _draft(
        self,
        text: str,
        now: datetime,
        scope: ScopeName,
        namespace: str,
        key: str | None = None,
        value: object = None,
        tags: Sequence[str] = (),
        expires_in_s: float | None = None,
    ) -> Fact:
        of_agent = scope == "agent"
        return Fact(
            id=new_memory_id(),
            project_id=self.input.project_id,
            owner_id=self.input.user_id,
            scope=_scope(scope),
            line_id=self.agent.line_id if of_agent else None,
            namespace=namespace,
            key=key,
            text=text,
            value=value,
            tags=tuple(tags),
            run_id=self.input.run_id,
            created_at=now,
            updated_at=now,
            expires_at=_later(now, expires_in_s),
        )


def _scope(name: str) -> MemoryScope:
    try:
        return MemoryScope(name)
    except ValueError as error:
        names = ", ".join(MemoryScope)
        raise InvalidValue(f"A scope is one of {names}.", param="scope") from error


def _later(now: datetime, seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    if not 0 < seconds <= LONGEST_S:
        raise InvalidValue(
            "It lasts more than no time, and 100 years at most.", param="expires_in_s"
        )
    return now + timedelta(seconds=seconds)


async def _by_id(work: UnitOfWork, id: str, at: datetime) -> Fact | None:
    try:
        return await work.memories.get(MemoryId(id), at)
    except MemoryNotFound:
        return None
