from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from time import monotonic

from runtime.application.services.single_flight import SingleFlight
from runtime.domain.entities.agents import Agent
from runtime.domain.errors import ModelNotFound
from runtime.domain.events.base import Event
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.agents import ModelReference
from runtime.domain.value_objects.identity import KeyScope, Principal, Scope

FRESH_S = 1.0
"""How long another replica's publication may go unseen; our own is seen at once."""
MOST_KEPT = 4_096

Key = tuple[Scope, str]


class AgentCatalogue:
    """From what a caller writes in `model` to the agent version that answers."""

    def __init__(self, uow: UnitOfWorkFactory, clock: Callable[[], float] = monotonic) -> None:
        self._uow = uow
        self._clock = clock
        self._known: OrderedDict[Key, tuple[float, Agent]] = OrderedDict()
        self._changes = 0
        self._finding: SingleFlight[tuple[int, Key], Agent | None] = SingleFlight()

    async def resolve(self, model: str, caller: Principal) -> Agent:
        """Raises InvalidReference, or ModelNotFound for what the caller may not call as for what
        does not exist; Forbidden for a key that is not for calling."""
        caller.require_scope(KeyScope.MODELS)
        key = (caller.scope, model)
        known = self._known.get(key)
        if known and known[0] > self._clock():
            agent: Agent | None = known[1]
        else:
            agent = await self._finding((self._changes, key), partial(self._find, key))
        if agent is None:
            raise ModelNotFound(model)
        exact = "@" in model or model == agent.id
        if not agent.callable_by(caller, exact=exact):
            raise ModelNotFound(model)
        return agent

    async def forget(self, _: Event) -> None:
        """Something about agents changed."""
        self._changes += 1
        self._known.clear()

    async def _find(self, key: Key) -> Agent | None:
        scope, model = key
        reference = ModelReference.parse(model)
        changes = self._changes
        async with self._uow(scope) as work:
            agent = await work.agents.find(reference)
        # A change that came while we read may not be in what we read.
        if agent and changes == self._changes:
            self._known[key] = (self._clock() + FRESH_S, agent)
            self._known.move_to_end(key)
            while len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)
        return agent
