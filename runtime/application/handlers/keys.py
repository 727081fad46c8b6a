"""Commands that change API keys: each one transaction, with its row in the audit trail."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from runtime.application.commands.keys import CreateKey, RevokeKey
from runtime.application.services.auditing import key_entry
from runtime.domain.entities.keys import ApiKey
from runtime.domain.errors import Forbidden, InvalidValue
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import new_key_id
from runtime.domain.value_objects.keys import KeyText


@dataclass(frozen=True, slots=True)
class Created:
    key: ApiKey
    text: KeyText


@dataclass(frozen=True)
class CreateKeyHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    secret: bytes

    async def __call__(self, command: CreateKey) -> Created:
        """Raises Forbidden for more rights than the actor has, InvalidValue."""
        at = self.now()
        owner = _owner(command)
        if not command.name.strip():
            raise InvalidValue("Say what the key is for.", param="name")
        text = KeyText.new()
        key = ApiKey.create(
            new_key_id(),
            prefix=text.prefix,
            digest=text.digest(self.secret),
            name=command.name,
            owner=owner,
            by=command.actor.user_id,
            at=at,
            expires_at=at + command.lifetime if command.lifetime else None,
        )
        async with self.uow(command.actor.scope) as work:
            await work.keys.add(key)
            await work.audit.add(key_entry("create_key", key, command.actor, at))
            await work.commit()
        return Created(key, text)


@dataclass(frozen=True)
class RevokeKeyHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]

    async def __call__(self, command: RevokeKey) -> ApiKey:
        """Raises KeyNotFound, Forbidden."""
        at = self.now()
        command.actor.require_scope(KeyScope.KEYS)
        async with self.uow(command.actor.scope) as work:
            key = await work.keys.get(command.id)
            key.revoke(at)
            await work.keys.save(key)
            await work.audit.add(key_entry("revoke_key", key, command.actor, at))
            await work.commit()
        return key


def _owner(command: CreateKey) -> Principal:
    """Whom the key will stand for. Raises Forbidden."""
    actor = command.actor
    actor.require_scope(KeyScope.KEYS)
    if command.owner_id not in (None, actor.user_id):
        actor.require(Role.ADMIN, "make a key for somebody else")
    if not command.roles:
        raise InvalidValue("A key has at least one role.", param="roles")
    for role in command.roles:
        if not actor.has(role):
            raise Forbidden(f"You don't have the role '{role}' yourself.")
    return replace(
        actor,
        user_id=command.owner_id or actor.user_id,
        roles=command.roles,
        limited_to=_narrowed(actor.limited_to, command.scopes),
    )


def _narrowed(
    own: frozenset[KeyScope] | None, wanted: frozenset[KeyScope] | None
) -> frozenset[KeyScope] | None:
    """Raises Forbidden, InvalidValue."""
    if wanted is None:
        return own
    if not wanted:
        raise InvalidValue("Name a scope, or leave them out.", param="scopes")
    if own is not None and not wanted <= own:
        raise Forbidden(f"You don't have the scope '{min(wanted - own)}' yourself.")
    return wanted
