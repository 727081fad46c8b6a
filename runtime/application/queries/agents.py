from collections.abc import Sequence
from dataclasses import dataclass

from runtime.application.queries.differences import FieldChange, differences
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.audit import AuditEntry
from runtime.domain.errors import AgentNotFound, Forbidden, TemplateNotFound
from runtime.domain.repositories.agents import AgentFilter
from runtime.domain.services.templates import TemplateCatalog
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.agents import ModelReference
from runtime.domain.value_objects.identity import KeyScope, Principal, Scope
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True, slots=True)
class Difference:
    before: Agent
    after: Agent
    changes: Sequence[FieldChange]


@dataclass(frozen=True)
class AgentQueries:
    uow: UnitOfWorkFactory
    templates: TemplateCatalog

    async def get(self, actor: Principal, reference: str) -> Agent:
        """Raises AgentNotFound."""
        async with self.uow(_reading(actor)) as work:
            return await one_agent(work, reference)

    async def page(
        self, actor: Principal, where: AgentFilter, *, limit: int, after: str | None
    ) -> Page[Agent]:
        async with self.uow(_reading(actor)) as work:
            return await work.agents.page(where, limit=limit, after=after)

    async def versions(
        self, actor: Principal, id: str, *, limit: int, after: str | None
    ) -> Page[Agent]:
        """Every version of the agent's line. Raises AgentNotFound."""
        async with self.uow(_reading(actor)) as work:
            agent = await one_agent(work, id)
            where = AgentFilter(line_id=agent.line_id)
            return await work.agents.page(where, limit=limit, after=after)

    async def difference(self, actor: Principal, id: str, against: str | None) -> Difference:
        """From `against` (an id, `v3`, or a reference) to the agent.

        Without `against`: from the published version, or the version before.
        Raises AgentNotFound.
        """
        async with self.uow(_reading(actor)) as work:
            after = await one_agent(work, id)
            before = await self._base(work, after, against)
        return Difference(before, after, self._changes(before, after))

    async def audit(
        self, actor: Principal, id: str, *, limit: int, after: str | None
    ) -> Page[AuditEntry]:
        """The trail of the agent's whole line, to an owner as far as it is theirs.

        Raises AgentNotFound; Forbidden for who sees the agent only because it is released.
        """
        async with self.uow(_reading(actor)) as work:
            agent = await one_agent(work, id)
            if not actor.scope.sees_all and agent.owner_id != actor.user_id:
                raise Forbidden("The trail is for the agent's owner and for reviewers.")
            return await work.audit.of_line(agent.line_id, limit=limit, after=after)

    async def models(self, caller: Principal) -> Sequence[Agent]:
        """What the caller can name in `model` without a version."""
        caller.require_scope(KeyScope.MODELS)
        async with self.uow(caller.scope) as work:
            published = await work.agents.published()
        return [agent for agent in published if agent.callable_by(caller, exact=False)]

    async def _base(self, work: UnitOfWork, agent: Agent, against: str | None) -> Agent:
        if against is not None:
            number = against.removeprefix("v")
            if number.isdecimal() and against != number:
                return await one_agent(work, f"{agent.slug}@{against}")
            return await one_agent(work, against)
        published = await work.agents.find(ModelReference(agent.slug.value))
        if published and published.id != agent.id:
            return published
        where = AgentFilter(line_id=agent.line_id)
        page = await work.agents.page(where, limit=1_000, after=None)
        earlier = [each for each in page.items if each.number < agent.number]
        return max(earlier, key=lambda each: each.number, default=agent)

    def _changes(self, before: Agent, after: Agent) -> Sequence[FieldChange]:
        try:
            info = self.templates.get(after.spec.template.id, after.spec.template.version)
            schema = info.json_schema
        except TemplateNotFound:
            schema = {}
        return differences(before.spec, after.spec, schema)


def _reading(actor: Principal) -> Scope:
    """Raises Forbidden."""
    actor.require_scope(KeyScope.AGENTS_READ)
    return actor.scope


async def one_agent(work: UnitOfWork, reference: str) -> Agent:
    """By id, or by what `model` accepts. Raises AgentNotFound."""
    agent = await work.agents.find(ModelReference.parse(reference))
    if agent is None:
        raise AgentNotFound(reference)
    return agent
