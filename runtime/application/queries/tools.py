from collections.abc import Sequence
from dataclasses import dataclass

from runtime.domain.services.tools import ToolService, ToolTraits
from runtime.domain.value_objects.chat import ToolSpec
from runtime.domain.value_objects.identity import KeyScope, Principal


@dataclass(frozen=True)
class ToolQueries:
    tools: ToolService

    def all(self, actor: Principal) -> Sequence[tuple[ToolSpec, ToolTraits]]:
        """What an agent of the actor's can be granted. Raises Forbidden."""
        actor.require_scope(KeyScope.AGENTS_READ)
        specs = self.tools.specs(self.tools.names())
        return [(spec, self.tools.traits(spec.name)) for spec in specs]
