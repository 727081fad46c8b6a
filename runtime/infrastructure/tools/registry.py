"""The tools of this process, by name."""

import logging
from collections.abc import Sequence
from typing import Protocol

from runtime.domain.errors import InvalidValue
from runtime.domain.services.tools import ToolOutcome, ToolService, ToolTraits
from runtime.domain.value_objects.chat import ToolSpec
from runtime.infrastructure.tools.decorated import DecoratedTool

logger = logging.getLogger(__name__)


class Tool(Protocol):
    @property
    def spec(self) -> ToolSpec: ...

    @property
    def traits(self) -> ToolTraits: ...

    def problem(self, arguments: str) -> str | None:
        """What is wrong with JSON `arguments`; None: nothing."""

    async def __call__(self, arguments: str) -> ToolOutcome:
        """Run on JSON `arguments`, which are checked here. Wrong ones are an outcome."""


class ToolRegistry(ToolService):
    """Takes tools from several sources. As a shelf, those that template files define."""

    kind: type = DecoratedTool

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self._sources: dict[str, str] = {}
        """By tool."""
        self.generation = 0

    def check(self, source: str, found: Sequence[Tool]) -> None:
        """Raises ValueError when a name is taken, by another source or twice."""
        names = [tool.spec.name for tool in found]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"there are two tools named {name}")
            owner = self._sources.get(name, source)
            if owner != source:
                raise ValueError(f"a tool named {name} is there already, from {owner}")

    def put(self, source: str, found: Sequence[Tool]) -> None:
        """What `source` has now, which was checked, in place of what it had before."""
        before = [name for name, owner in self._sources.items() if owner == source]
        fresh = {tool.spec.name: tool for tool in found}
        if not before and not fresh:
            return
        # In one step each: calls go on meanwhile, in another thread.
        kept = {name: tool for name, tool in self._tools.items() if name not in before}
        self._sources = {
            **{name: owner for name, owner in self._sources.items() if owner != source},
            **dict.fromkeys(fresh, source),
        }
        self._tools = {**kept, **fresh}
        self.generation += 1

    def drop(self, source: str) -> None:
        self.put(source, ())

    def names(self) -> Sequence[str]:
        return sorted(self._tools)

    def specs(self, granted: Sequence[str]) -> Sequence[ToolSpec]:
        tools = self._tools
        for name in granted:
            if name not in tools:
                raise InvalidValue(self._unknown(name), param="tools")
        return [tools[name].spec for name in granted]

    def traits(self, name: str) -> ToolTraits:
        tool = self._tools.get(name)
        return tool.traits if tool else ToolTraits()

    def problem(self, name: str, arguments: str) -> str | None:
        tool = self._tools.get(name)
        return tool.problem(arguments) if tool else None

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
