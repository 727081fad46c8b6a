from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from runtime.application.commands.sessions import (
    AddItems,
    CreateSession,
    DeleteItem,
    DeleteSession,
    DescribeSession,
)
from runtime.application.services.session_holds import SessionDesk
from runtime.domain.entities.sessions import Session, checked_metadata
from runtime.domain.repositories.sessions import Addition
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope
from runtime.domain.value_objects.ids import new_session_id, uuid7_hex

_AT_ONCE_S = 60.0
"""A session is begun and written to in one transaction: nobody sees it held."""


@dataclass(frozen=True)
class CreateSessionHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]

    async def __call__(self, command: CreateSession) -> Session:
        command.caller.require_scope(KeyScope.MODELS)
        scope, now, holder = command.caller.scope, self.now(), uuid7_hex()
        session = Session(
            id=new_session_id(),
            project_id=scope.project_id,
            owner_id=scope.user_id,
            metadata=checked_metadata(command.metadata),
            created_at=now,
            updated_at=now,
        )
        async with self.uow(scope) as work:
            if not await work.sessions.add(session, holder, _AT_ONCE_S):
                raise RuntimeError(f"the new id {session.id} is taken")
            await work.sessions.write(session, holder, Addition(command.items), now)
            await work.commit()
        return session


@dataclass(frozen=True)
class DescribeSessionHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]

    async def __call__(self, command: DescribeSession) -> Session:
        """Raises ConversationNotFound, InvalidValue."""
        command.caller.require_scope(KeyScope.MODELS)
        metadata = checked_metadata(command.metadata)
        async with self.uow(command.caller.scope) as work:
            session = await work.sessions.get(command.id)
            await work.sessions.set_metadata(command.id, metadata, self.now())
            await work.commit()
        return replace(session, metadata=metadata)


@dataclass(frozen=True)
class DeleteSessionHandler:
    uow: UnitOfWorkFactory

    async def __call__(self, command: DeleteSession) -> None:
        """A turn that goes on is not remembered any more. Raises ConversationNotFound."""
        command.caller.require_scope(KeyScope.MODELS)
        async with self.uow(command.caller.scope) as work:
            await work.sessions.remove(command.id)
            await work.commit()


@dataclass(frozen=True)
class AddItemsHandler:
    desk: SessionDesk

    async def __call__(self, command: AddItems) -> None:
        """Between two turns, never in one. Raises ConversationNotFound, SessionBusy."""
        command.caller.require_scope(KeyScope.MODELS)
        async with self.desk.taken(command.caller, command.id) as hold:
            async with self.desk.uow(hold.scope) as work:
                addition = Addition(command.items)
                await work.sessions.write(hold.session, hold.holder, addition, self.desk.now())
                await work.commit()
            hold.written = True


@dataclass(frozen=True)
class DeleteItemHandler:
    desk: SessionDesk

    async def __call__(self, command: DeleteItem) -> Session:
        """Between two turns, never in one. Raises ConversationNotFound, ItemNotFound,
        SessionBusy."""
        command.caller.require_scope(KeyScope.MODELS)
        async with self.desk.taken(command.caller, command.id) as hold:
            async with self.desk.uow(hold.scope) as work:
                await work.sessions.remove_item(
                    hold.session, hold.holder, command.item_id, self.desk.now()
                )
                await work.commit()
            hold.written = True
            return hold.session
