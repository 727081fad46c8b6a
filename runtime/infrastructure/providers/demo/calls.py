"""Which of the offered tools the demo model calls, and with what."""

import re
from collections.abc import Sequence

from runtime.domain.value_objects.chat import (
    ChatRole,
    GenerationOptions,
    Message,
    ToolCall,
    ToolSpec,
)
from runtime.infrastructure.providers.demo.schemas import as_text, instance
from runtime.infrastructure.providers.demo.texts import (
    LONGEST_LOOKED_AT,
    Hints,
    expression,
    holds_words,
    json_object,
)

_ASKS_TIME = re.compile(
    r"\btime\b|\bdate\b|\bwhat day\b|\btoday\b|几点|时间|日期|几号|星期几|今天", re.IGNORECASE
)
_VERBS = {"a", "the", "my", "get", "fetch", "find", "list", "do", "run", "make", "create", "tool"}
_PART_OF_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def wanted_calls(messages: Sequence[Message], options: GenerationOptions) -> list[ToolCall]:
    """None after a tool's result: the model answers then, so it never goes round in circles."""
    if not options.tools or options.tool_choice == "none" or not messages:
        return []
    if messages[-1].role != ChatRole.USER:
        return []
    text = messages[-1].text
    tools = _chosen(text[:LONGEST_LOOKED_AT], options)
    if options.parallel_tool_calls is False:
        tools = tools[:1]
    return [
        ToolCall(f"call_demo_{len(messages)}_{index}", tool.name, _arguments(tool, text))
        for index, tool in enumerate(tools)
    ]


def _chosen(text: str, options: GenerationOptions) -> list[ToolSpec]:
    if options.tool_choice not in (None, "auto", "required"):
        return [tool for tool in options.tools if tool.name == options.tool_choice]
    matching = [tool for tool in options.tools if _fits(tool.name, text)]
    if options.tool_choice == "required":
        return matching or [options.tools[0]]
    return matching


def _fits(name: str, text: str) -> bool:
    if name.lower() in text.lower():
        return True
    if name == "calculator":
        return expression(text) is not None
    if name == "current_time":
        return _ASKS_TIME.search(text) is not None
    parts = [part.lower() for part in _PART_OF_NAME.findall(name)]
    return holds_words(text, [part for part in parts if part not in _VERBS])


def _arguments(tool: ToolSpec, text: str) -> str:
    given = json_object(text)
    if given is not None:
        return as_text(given)
    if not tool.parameters:
        return "{}"
    made = instance(tool.parameters, Hints.of(text), optional=False)
    return as_text(made if isinstance(made, dict) else {})
