"""Public API for authors of tools.

    from runtime.tools import tool

    @tool(read_only=True)
    async def stock(article: str) -> int:
        \"\"\"How many of an article are in store.\"\"\"

A file in a template folder may define tools beside its templates; an installed package names them
in its entry points under `agent_runtime.tools`.
"""

from runtime.domain.services.tools import ToolTraits
from runtime.infrastructure.tools.decorated import DecoratedTool, tool
from runtime.infrastructure.tools.function import ToolProblem
from runtime.templates.tools import CurrentCall, tool_call

__all__ = ["CurrentCall", "DecoratedTool", "ToolProblem", "ToolTraits", "tool", "tool_call"]
