from dataclasses import dataclass

from runtime.domain.errors import RunNotFound
from runtime.domain.repositories.checkpoints import CheckpointStore
from runtime.domain.services.states import GraphStates, SeenCheckpoint
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True)
class CheckpointQueries:
    uow: UnitOfWorkFactory
    store: CheckpointStore
    states: GraphStates

    async def page(
        self, actor: Principal, id: RunId, *, limit: int, after: str | None
    ) -> Page[SeenCheckpoint]:
        """Newest first; none of a run whose caller waited for it. Raises RunNotFound."""
        actor.require_scope(KeyScope.RUNS_READ)
        async with self.uow(actor.scope) as work:
            try:
                await work.durable.get(id)
            except RunNotFound:
                await work.runs.get(id)
                return Page([], None)
        scope = actor.scope
        found = await self.store.history(id, scope=scope, before=after, limit=limit + 1)
        there = found[:limit]
        versions = {each for checkpoint in there for each in self.states.versions(checkpoint)}
        values = await self.store.values(id, "", sorted(versions))
        writes = await self.store.writes(id, "", [each.id for each in there])
        seen = [
            self.states.seen(each, values, [w for w in writes if w.checkpoint_id == each.id])
            for each in there
        ]
        return Page(seen, there[-1].id if len(found) > limit else None)
