from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from runtime.application.commands.memories import ChangeMemory, Forget, ForgetAll, Remember
from runtime.application.services.catalogue import AgentCatalogue
from runtime.application.services.memories import MemoryBook
from runtime.domain.entities.memories import Fact, MemoryScope
from runtime.domain.errors import StaleVersion
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import MemoryId, UserId, new_memory_id


@dataclass(frozen=True)
class RememberHandler:
    book: MemoryBook
    catalogue: AgentCatalogue

    async def __call__(self, command: Remember) -> Fact:
        """Raises InvalidValue, ModelNotFound, Forbidden, MemoryFull."""
        command.caller.require_scope(KeyScope.MODELS)
        caller, now = acting(command.caller, command.user), self.book.now()
        _may_change(caller, command.scope)
        line = None
        if command.agent is not None:
            line = (await self.catalogue.resolve(command.agent, caller)).line_id
        fact = Fact(
            id=new_memory_id(),
            project_id=caller.project_id,
            owner_id=caller.user_id,
            scope=command.scope,
            line_id=line,
            key=command.key,
            text=command.text,
            value=command.value,
            tags=tuple(dict.fromkeys(command.tags)),
            created_at=now,
            updated_at=now,
            expires_at=_end(now, command.lifetime),
        )
        async with self.book.uow(caller.scope) as work:
            stored = await self.book.put(work, fact)
            await work.commit()
        return stored


@dataclass(frozen=True)
class ChangeMemoryHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]

    async def __call__(self, command: ChangeMemory) -> Fact:
        """Raises MemoryNotFound, InvalidValue, Forbidden, StaleVersion, ConcurrentChange,
        MemoryExists."""
        now, fields = self.now(), dict[str, Any](command.fields)
        if "tags" in fields:
            fields["tags"] = tuple(dict.fromkeys(fields["tags"]))
        if "lifetime" in fields:
            fields["expires_at"] = _end(now, fields.pop("lifetime"))
        async with self.uow(command.caller.scope) as work:
            fact = await _changeable(work, command.caller, command.id, now)
            if command.if_match not in (None, "*", fact.etag):
                raise StaleVersion(fact.etag, "this memory")
            changed = await work.memories.save(replace(fact, **fields, run_id=None, updated_at=now))
            await work.commit()
        return changed


@dataclass(frozen=True)
class ForgetHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]

    async def __call__(self, command: Forget) -> None:
        """Raises MemoryNotFound, Forbidden."""
        async with self.uow(command.caller.scope) as work:
            await _changeable(work, command.caller, command.id, self.now())
            await work.memories.remove(command.id)
            await work.commit()


@dataclass(frozen=True)
class ForgetAllHandler:
    uow: UnitOfWorkFactory

    async def __call__(self, command: ForgetAll) -> int:
        """The user's own, but for what they share; how many there were. Raises Forbidden."""
        command.caller.require_scope(KeyScope.MODELS)
        caller = acting(command.caller, command.user)
        async with self.uow(caller.scope) as work:
            gone = await work.memories.clear()
            await work.commit()
        return gone


def acting(caller: Principal, user: UserId | None) -> Principal:
    """Raises Forbidden for who acts for somebody else and is no admin."""
    if user in (None, caller.user_id):
        return caller
    caller.require(Role.ADMIN, "act for somebody else")
    return caller.acting_for(user)


async def _changeable(work: UnitOfWork, caller: Principal, id: MemoryId, at: datetime) -> Fact:
    caller.require_scope(KeyScope.MODELS)
    fact = await work.memories.get(id, at)
    _may_change(caller, fact.scope)
    return fact


def _may_change(caller: Principal, scope: MemoryScope) -> None:
    if scope is MemoryScope.SHARED:
        caller.require(Role.EDITOR, "change what the project shares")


def _end(now: datetime, lifetime: timedelta | None) -> datetime | None:
    return None if lifetime is None else now + lifetime
