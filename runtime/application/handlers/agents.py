"""Commands that change agents: each one transaction, with its row in the audit trail."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from runtime.application.commands.agents import (
    ApproveAgent,
    CreateAgent,
    DeleteAgent,
    NewVersion,
    RejectAgent,
    RevokeAgent,
    RollBackAgent,
    SubmitAgent,
    UpdateAgent,
)
from runtime.application.queries.agents import one_agent
from runtime.application.services.auditing import AuditTrail
from runtime.application.services.config_secrets import Place
from runtime.application.services.drafting import Drafted, Drafting
from runtime.application.services.webhooks.events import agent_event
from runtime.domain.entities.agents import Agent, AgentLine
from runtime.domain.errors import (
    AgentNotFound,
    Forbidden,
    InvalidValue,
    StaleVersion,
    TransitionRefused,
)
from runtime.domain.repositories.agents import AgentFilter
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.agents import AgentStatus, ModelReference, Slug
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import new_agent_id, new_line_id
from runtime.domain.value_objects.webhooks import EventType

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Changed:
    agent: Agent
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AgentHandler:
    """What the handlers below share."""

    uow: UnitOfWorkFactory
    now: Clock

    def editing(self, actor: Principal, to: str) -> AbstractAsyncContextManager[UnitOfWork]:
        """Raises Forbidden for who may only look."""
        actor.require_scope(KeyScope.AGENTS_WRITE)
        actor.require(Role.EDITOR, to)
        return self.uow(actor.scope)

    def reviewing(self, actor: Principal, to: str) -> AbstractAsyncContextManager[UnitOfWork]:
        """Raises Forbidden, whatever the agent: who may not review learns nothing about it."""
        actor.require_scope(KeyScope.REVIEW)
        actor.require(Role.REVIEWER, to)
        return self.uow(actor.scope)


async def _read(work: UnitOfWork, reference: str, if_match: str | None = None) -> Agent:
    """Raises AgentNotFound, StaleVersion."""
    return _unchanged(await one_agent(work, reference), if_match)


def _unchanged(agent: Agent, if_match: str | None) -> Agent:
    if if_match is not None and if_match not in ("*", agent.etag):
        raise StaleVersion(agent.etag)
    return agent


async def _own(
    work: UnitOfWork, actor: Principal, reference: str, if_match: str | None = None
) -> Agent:
    """Raises AgentNotFound, Forbidden for what the actor sees but may not write, StaleVersion."""
    agent = await one_agent(work, reference)
    agent.require_editor(actor)
    return _unchanged(agent, if_match)


async def _publish(work: UnitOfWork, agent: Agent, at: datetime) -> Agent | None:
    """Move the line's pointer to `agent`; the version before it, if any, is superseded."""
    line = await work.lines.get(agent.line_id)
    before = None
    if line.published_id and line.published_id != agent.id:
        before = await work.agents.get(line.published_id)
        before.supersede(at)
        await work.agents.save(before)
    line.published_id = agent.id
    await work.lines.save(line)
    return before


async def _withdraw(work: UnitOfWork, agent: Agent) -> AgentLine:
    """The line no longer points to `agent`."""
    line = await work.lines.get(agent.line_id)
    if line.published_id == agent.id:
        line.published_id = None
        await work.lines.save(line)
    return line


@dataclass(frozen=True)
class CreateAgentHandler(AgentHandler):
    drafting: Drafting

    async def __call__(self, command: CreateAgent) -> Changed:
        """Raises what Drafting raises, NameTaken, AgentExists, VersionExists, Forbidden, and
        AgentNotFound for a line that the actor has no part in."""
        self._check(command)
        id = command.id or new_agent_id()
        place = Place(command.actor.project_id, id)
        # In a thread: a user's graph may be imported to see whether it is one.
        drafted = await asyncio.to_thread(self.drafting.new, command.change, place)
        at = self.now()
        async with self.editing(command.actor, "create an agent") as work:
            line = await self._line(work, command, drafted, at)
            agent = line.new_version(
                id,
                drafted.spec,
                owner=command.owner_id or command.actor.user_id,
                author=command.actor.user_id,
                at=at,
                number=command.number,
            )
            trail = AuditTrail(agent, new=True)
            await work.lines.save(line)
            await work.agents.add(agent)
            await work.audit.add(trail.entry("create", command.actor, at))
            if command.submit or command.publish:
                await self._submit(work, agent, command.actor, at)
            if command.publish:
                await self._approve(work, agent, command.actor, at)
            await work.commit()
        return Changed(agent, drafted.warnings)

    def _check(self, command: CreateAgent) -> None:
        """Before anything is looked up, so that a refusal tells nothing about what there is."""
        actor = command.actor
        actor.require_scope(KeyScope.AGENTS_WRITE)
        actor.require(Role.EDITOR, "create an agent")
        if command.publish:
            actor.require_scope(KeyScope.REVIEW)
            actor.require(Role.REVIEWER, "publish an agent")
        if command.owner_id not in (None, actor.user_id):
            actor.require(Role.ADMIN, "create an agent for somebody else")
        if command.id is not None:
            actor.require(Role.ADMIN, "choose an agent's id")

    async def _line(
        self, work: UnitOfWork, command: CreateAgent, drafted: Drafted, at: datetime
    ) -> AgentLine:
        if command.line_id:
            known = await work.lines.find(command.line_id)
            if known:
                if command.slug and command.slug != known.slug.value:
                    raise InvalidValue(f"This line's slug is '{known.slug}'.", param="slug")
                return known
            if not command.actor.has(Role.ADMIN):
                raise AgentNotFound(command.line_id)
        slug = Slug(command.slug) if command.slug else Slug.from_name(drafted.spec.name)
        line = AgentLine(
            id=command.line_id or new_line_id(),
            slug=slug,
            project_id=command.actor.project_id,
            owner_id=command.owner_id or command.actor.user_id,
            created_at=at,
        )
        await work.lines.add(line)
        return line

    async def _submit(self, work: UnitOfWork, agent: Agent, actor: Principal, at: datetime) -> None:
        trail = AuditTrail(agent)
        agent.submit(at)
        await work.agents.save(agent)
        await work.audit.add(trail.entry("submit", actor, at))
        await work.webhooks.queue(agent_event(EventType.AGENT_SUBMITTED, agent, at))

    async def _approve(
        self, work: UnitOfWork, agent: Agent, actor: Principal, at: datetime
    ) -> None:
        trail = AuditTrail(agent)
        agent.approve(actor, at)
        await _publish(work, agent, at)
        await work.agents.save(agent)
        detail = {"self_approved": actor.user_id == agent.author_id}
        await work.audit.add(trail.entry("approve", actor, at, detail))
        await work.webhooks.queue(agent_event(EventType.AGENT_PUBLISHED, agent, at))


@dataclass(frozen=True)
class UpdateAgentHandler(AgentHandler):
    drafting: Drafting

    async def __call__(self, command: UpdateAgent) -> Changed:
        """Raises AgentNotFound, StaleVersion, TransitionRefused, and what Drafting raises."""
        at = self.now()
        async with self.editing(command.actor, "change an agent") as work:
            agent = await _own(work, command.actor, command.agent, command.if_match)
            trail = AuditTrail(agent)
            drafted = await asyncio.to_thread(
                self.drafting.changed,
                agent,
                command.change,
                Place(agent.project_id, agent.id),
                replace_config=command.replace_config,
            )
            agent.edit(drafted.spec, command.actor, at)
            await work.agents.save(agent)
            await work.audit.add(trail.entry("update", command.actor, at))
            await work.commit()
        return Changed(agent, drafted.warnings)


@dataclass(frozen=True)
class SubmitAgentHandler(AgentHandler):
    async def __call__(self, command: SubmitAgent) -> Changed:
        at = self.now()
        async with self.editing(command.actor, "submit an agent") as work:
            agent = await _own(work, command.actor, command.agent, command.if_match)
            trail = AuditTrail(agent)
            agent.submit(at)
            await work.agents.save(agent)
            await work.audit.add(trail.entry("submit", command.actor, at))
            await work.webhooks.queue(agent_event(EventType.AGENT_SUBMITTED, agent, at))
            await work.commit()
        return Changed(agent)


@dataclass(frozen=True)
class ApproveAgentHandler(AgentHandler):
    async def __call__(self, command: ApproveAgent) -> Changed:
        """Raises AgentNotFound, StaleVersion, TransitionRefused, Forbidden."""
        at = self.now()
        async with self.reviewing(command.actor, "approve an agent") as work:
            agent = await _read(work, command.agent, command.if_match)
            trail = AuditTrail(agent)
            if command.content_hash not in (None, agent.spec.content_hash):
                raise StaleVersion(agent.etag)
            agent.approve(command.actor, at)
            before = await _publish(work, agent, at)
            await work.agents.save(agent)
            detail = {
                "self_approved": command.actor.user_id == agent.author_id,
                "superseded": before.version if before else None,
            }
            await work.audit.add(trail.entry("approve", command.actor, at, detail))
            await work.webhooks.queue(agent_event(EventType.AGENT_PUBLISHED, agent, at))
            await work.commit()
        return Changed(agent)


@dataclass(frozen=True)
class RejectAgentHandler(AgentHandler):
    async def __call__(self, command: RejectAgent) -> Changed:
        if not command.reason.strip():
            raise InvalidValue("Say why: the author reads the reason.", param="reason")
        at = self.now()
        async with self.reviewing(command.actor, "reject an agent") as work:
            agent = await _read(work, command.agent, command.if_match)
            trail = AuditTrail(agent)
            agent.reject(command.actor, command.reason, at)
            await work.agents.save(agent)
            detail = {"reason": command.reason}
            await work.audit.add(trail.entry("reject", command.actor, at, detail))
            await work.commit()
        return Changed(agent)


@dataclass(frozen=True)
class RevokeAgentHandler(AgentHandler):
    async def __call__(self, command: RevokeAgent) -> Changed:
        at = self.now()
        async with self.reviewing(command.actor, "revoke an agent") as work:
            agent = await _read(work, command.agent, command.if_match)
            trail = AuditTrail(agent)
            agent.revoke(command.actor, at)
            await _withdraw(work, agent)
            await work.agents.save(agent)
            detail = {"reason": command.reason}
            await work.audit.add(trail.entry("revoke", command.actor, at, detail))
            await work.webhooks.queue(agent_event(EventType.AGENT_REVOKED, agent, at))
            await work.commit()
        return Changed(agent)


@dataclass(frozen=True)
class RollBackAgentHandler(AgentHandler):
    async def __call__(self, command: RollBackAgent) -> Changed:
        """The version that is published now. Raises AgentNotFound, TransitionRefused."""
        at = self.now()
        async with self.reviewing(command.actor, "roll an agent back") as work:
            named = await _read(work, command.agent)
            agent = await self._target(work, named, command)
            trail = AuditTrail(agent)
            agent.restore(command.actor, at)
            before = await _publish(work, agent, at)
            await work.agents.save(agent)
            detail = {"from": before.version if before else None}
            await work.audit.add(trail.entry("rollback", command.actor, at, detail))
            await work.webhooks.queue(agent_event(EventType.AGENT_PUBLISHED, agent, at))
            await work.commit()
        return Changed(agent)

    async def _target(self, work: UnitOfWork, named: Agent, command: RollBackAgent) -> Agent:
        if command.to is not None:
            reference = ModelReference(named.slug.value, version=command.to)
            found = await work.agents.find(reference)
            if found is None:
                raise InvalidValue(f"{named.slug} has no version v{command.to}.", param="to")
            return found
        if named.status is AgentStatus.SUPERSEDED:
            return named
        where = AgentFilter(line_id=named.line_id, status=AgentStatus.SUPERSEDED)
        earlier = await work.agents.page(where, limit=1_000, after=None)
        numbers = {agent.number: agent for agent in earlier.items if agent.number < named.number}
        if not numbers:
            raise TransitionRefused(
                "rolled back", named.status, "no earlier version of it was published."
            )
        return numbers[max(numbers)]


@dataclass(frozen=True)
class NewVersionHandler(AgentHandler):
    drafting: Drafting

    async def __call__(self, command: NewVersion) -> Changed:
        """Raises AgentNotFound, ConcurrentChange, and what Drafting raises."""
        at = self.now()
        async with self.editing(command.actor, "make a version") as work:
            base = await _own(work, command.actor, command.agent)
            id = new_agent_id()
            place = Place(base.project_id, id)
            drafted = await asyncio.to_thread(
                self.drafting.changed, base, command.change, place, replace_config=False
            )
            line = await work.lines.get(base.line_id)
            agent = line.new_version(
                id,
                drafted.spec,
                owner=base.owner_id,
                author=command.actor.user_id,
                at=at,
            )
            await work.lines.save(line)
            await work.agents.add(agent)
            entry = AuditTrail(agent, new=True).entry(
                "create", command.actor, at, {"from": base.version}
            )
            await work.audit.add(entry)
            await work.commit()
        return Changed(agent, drafted.warnings)


@dataclass(frozen=True)
class DeleteAgentHandler(AgentHandler):
    async def __call__(self, command: DeleteAgent) -> None:
        """The version is gone, with its line when it was the last; its audit trail stays.

        Raises AgentNotFound, StaleVersion, Forbidden.
        """
        at = self.now()
        async with self.editing(command.actor, "delete an agent") as work:
            agent = await _read(work, command.agent, command.if_match)
            if not command.actor.has(Role.REVIEWER):
                agent.require_editor(command.actor)
                if agent.status is not AgentStatus.DRAFT:
                    raise Forbidden("Only a reviewer deletes what is, or was, in review.")
            trail = AuditTrail(agent)
            line = await _withdraw(work, agent)
            agent.delete(at)
            await work.agents.remove(agent)
            if not await work.lines.has_versions(line.id):
                await work.lines.remove(line)
            await work.audit.add(trail.entry("delete", command.actor, at, gone=True))
            await work.commit()
