"""The tools of this process, by name."""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from runtime.domain.errors import InvalidValue
from runtime.domain.services.tools import ToolOutcome, ToolService
from runtime.domain.value_objects.chat import ToolSpec
from runtime.infrastructure.tools.calculator import calculator
from runtime.infrastructure.tools.clock import current_time

logger = logging.getLogger(__name__)


class Tool(Protocol):
    @property
    def spec(self) -> ToolSpec: ...

    async def __call__(self, arguments: str) -> ToolOutcome:
        """Run on JSON `arguments`, which are checked here. Wrong ones are an outcome."""


def _now() -> datetime:
    return datetime.now(UTC)


class BuiltinTools(ToolService):
    def __init__(self, extra: Iterable[Tool] = (), *, now: Callable[[], datetime] = _now) -> None:
        """Raises ValueError when two tools have the same name."""
        self._tools: dict[str, Tool] = {}
        tools: list[Tool] = [calculator(), current_time(now), *extra]
        for tool in tools:
            if tool.spec.name in self._tools:
                raise ValueError(f"there are two tools named {tool.spec.name}")
            self._tools[tool.spec.name] = tool

    def names(self) -> Sequence[str]:
        return sorted(self._tools)

    def specs(self, granted: Sequence[str]) -> Sequence[ToolSpec]:
        for name in granted:
            if name not in self._tools:
                raise InvalidValue(self._unknown(name), param="tools")
        return [self._tools[name].spec for name in granted]

    async def call(self, name: str, arguments: str) -> ToolOutcome:
        tool = self._tools.get(name)
        if tool is None:
            return ToolOutcome("error", self._unknown(name))
        try:
            return await tool(arguments)
        # What a tool does wrong is for the model to read and for the log to explain.
        except Exception:
            logger.exception("the tool %s failed", name)
            return ToolOutcome("error", f"The tool '{name}' failed.")

    def _unknown(self, name: str) -> str:
        return f"There is no tool '{name}'. There are: {', '.join(self.names())}."
