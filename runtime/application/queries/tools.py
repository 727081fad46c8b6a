from collections.abc import Sequence
from dataclasses import dataclass

from runtime.domain.services.tools import ToolService
from runtime.domain.value_objects.chat import ToolSpec
from runtime.domain.value_objects.identity import KeyScope, Principal


@dataclass(frozen=True)
class ToolQueries:
    tools: ToolService

    def all(self, actor: Principal) -> Sequence[ToolSpec]:
        """What an agent of the actor's can be granted. Raises Forbidden."""
        actor.require_scope(KeyScope.AGENTS_READ)
        return self.tools.specs(self.tools.names())
