"""The tools that are there from the start, and those that are installed beside the runtime."""

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import entry_points
from types import ModuleType

from runtime.infrastructure.tools.calculator import calculator
from runtime.infrastructure.tools.clock import current_time
from runtime.infrastructure.tools.decorated import DecoratedTool
from runtime.infrastructure.tools.registry import Tool, ToolRegistry

logger = logging.getLogger(__name__)

BUILT_IN = "built-in"
ENTRY_POINTS = "agent_runtime.tools"


def _now() -> datetime:
    return datetime.now(UTC)


class BuiltinTools(ToolRegistry):
    def __init__(self, extra: Iterable[Tool] = (), *, now: Callable[[], datetime] = _now) -> None:
        """Raises ValueError when two tools have the same name."""
        super().__init__()
        tools: list[Tool] = [calculator(), current_time(now), *extra]
        self.check(BUILT_IN, tools)
        self.put(BUILT_IN, tools)


def register_entry_points(registry: ToolRegistry, report: Callable[[str, str], None]) -> None:
    """A distribution names a tool, or a module of them, in its entry points. `report` is told
    which source does not load, and why."""
    for point in entry_points(group=ENTRY_POINTS):
        source = f"{point.dist.name if point.dist else 'entry point'}:{point.name}"
        try:
            found = point.load()
            tools = list(_tools_of(found)) if isinstance(found, ModuleType) else [found]
            for each in tools:
                if not isinstance(each, DecoratedTool):
                    raise TypeError(f"{type(each).__name__} is no tool; use @runtime.tools.tool")
            registry.check(source, tools)
            registry.put(source, tools)
        # A third party's package must not keep the runtime from starting.
        except Exception as error:
            logger.exception("tools of %s do not load", source)
            report(source, f"{type(error).__name__}: {error}")


def _tools_of(module: ModuleType) -> Iterable[DecoratedTool]:
    for value in vars(module).values():
        if isinstance(value, DecoratedTool) and value.__module__ == module.__name__:
            yield value
