"""The tool service: what an agent may be granted, and the one way to call it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from runtime.domain.value_objects.chat import ToolSpec


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    status: Literal["success", "error"]
    output: str
    """What the model reads: the result, or what went wrong and how to call it right."""


class ToolService(Protocol):
    def names(self) -> Sequence[str]: ...

    def specs(self, granted: Sequence[str]) -> Sequence[ToolSpec]:
        """In the order asked for. Raises InvalidValue for an unknown name."""

    async def call(self, name: str, arguments: str) -> ToolOutcome:
        """Run a tool on JSON `arguments`. Wrong arguments and a failing tool are outcomes."""
