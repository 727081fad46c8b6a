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


Approver = Literal["owner", "reviewer"]
"""Who decides on a call: whoever the run is for, or a reviewer who is somebody else."""


@dataclass(frozen=True, slots=True)
class ToolTraits:
    """What a tool's author says of it. Nothing said: a call changes the world, each time."""

    read_only: bool = False
    idempotent: bool = False
    """The same call with the same idempotency key takes effect once, however often it is made."""
    approval: Approver | None = None
    """Who must agree before it is called; None: nobody."""
    timeout_s: float | None = None
    """In place of the agent's own limit."""

    @property
    def repeatable(self) -> bool:
        """Made again when nobody knows whether it was made."""
        return self.read_only or self.idempotent


class ToolService(Protocol):
    generation: int = 0
    """Grows when tools are loaded anew."""

    def names(self) -> Sequence[str]: ...

    def specs(self, granted: Sequence[str]) -> Sequence[ToolSpec]:
        """In the order asked for. Raises InvalidValue for an unknown name."""

    def traits(self, name: str) -> ToolTraits:
        """Of an unknown tool: those of one of which nothing is said."""

    def problem(self, name: str, arguments: str) -> str | None:
        """What is wrong with JSON `arguments`; None: nothing, or the tool is not there."""

    async def call(self, name: str, arguments: str) -> ToolOutcome:
        """Run a tool on JSON `arguments`. Wrong arguments and a failing tool are outcomes."""
