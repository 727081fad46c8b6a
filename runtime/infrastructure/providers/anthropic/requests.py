"""The body of `POST /v1/messages`, out of a call in OpenAI's terms."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from runtime.domain.errors import InvalidValue, UnsupportedParameter
from runtime.domain.services.models import ModelCall
from runtime.domain.value_objects.chat import GenerationOptions, ToolSpec
from runtime.infrastructure.providers.anthropic.messages import system_blocks, turns

Thinking = Literal["auto", "adaptive", "budget", "off"]

_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768}
"""Tokens for thinking by `reasoning_effort`; the API's least is 1,024."""
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}
_LEAST_TOP_P_THINKING = 0.95
_BUDGETED = re.compile(r"claude-3|claude-(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:-\d{8})?$")
"""Models that think by a budget; later ones are told how much effort to spend."""
_WITHOUT_WORDS = {
    "presence_penalty": "Anthropic's API has no penalties.",
    "frequency_penalty": "Anthropic's API has no penalties.",
    "logit_bias": "Anthropic's API takes no bias.",
    "logprobs": "Anthropic's API gives no log probabilities.",
    "top_logprobs": "Anthropic's API gives no log probabilities.",
    "verbosity": "Anthropic's API has no such setting; ask for it in the prompt.",
}
_LONG_RETENTION = ("24h", "1h")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a connection sets."""

    max_tokens: int
    thinking: Thinking


def request_body(call: ModelCall, model: str, dialect: Dialect) -> bytes:
    """Raises InvalidValue, UnsupportedParameter."""
    options = call.options
    _refuse_unsupported(options)
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": options.token_limit or dialect.max_tokens,
        "messages": turns(call.messages),
        "stream": call.stream,
    }
    system = system_blocks(call.messages)
    if system and body["messages"]:
        body["system"] = system
    elif system:  # There has to be a turn to answer.
        body["messages"] = [{"role": "user", "content": system}]
    if not body["messages"]:
        raise InvalidValue("There is no message to answer.", param="messages")
    body |= _sampling(options) | _tools(options) | _form(options)
    _think(body, call, model, dialect)
    _cache(body, options)
    user = options.user if options.user is not None else options.safety_identifier
    if user is not None:
        body["metadata"] = {"user_id": user}
    try:
        return orjson.dumps(body, default=_plain)
    except orjson.JSONEncodeError:
        raise InvalidValue(
            "The call holds text or numbers that JSON can't carry.", param="messages"
        ) from None


def _refuse_unsupported(options: GenerationOptions) -> None:
    for name, why in _WITHOUT_WORDS.items():
        if getattr(options, name):  # 0, false and an empty object ask for nothing
            raise UnsupportedParameter(name, why)


def _sampling(options: GenerationOptions) -> dict[str, Any]:
    sampling: dict[str, Any] = {}
    if options.temperature is not None:
        if not 0 <= options.temperature <= 1:
            raise InvalidValue(
                "Anthropic's models take a temperature between 0 and 1.", param="temperature"
            )
        sampling["temperature"] = options.temperature
    if options.top_p is not None:
        sampling["top_p"] = options.top_p
    if options.stop:
        sampling["stop_sequences"] = list(options.stop)
    return sampling


def _tools(options: GenerationOptions) -> dict[str, Any]:
    if not options.tools:
        return {}
    choice: dict[str, Any]
    match options.tool_choice:
        case None | "auto":
            choice = {"type": "auto"}
        case "required":
            choice = {"type": "any"}
        case "none":
            choice = {"type": "none"}
        case name:
            choice = {"type": "tool", "name": name}
    if options.parallel_tool_calls is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    wire: dict[str, Any] = {"tools": [_tool(tool) for tool in options.tools]}
    if choice != {"type": "auto"}:
        wire["tool_choice"] = choice
    return wire


def _tool(tool: ToolSpec) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "name": tool.name,
        "input_schema": {"type": "object", **tool.parameters},
    }
    if tool.description:
        wire["description"] = tool.description
    if tool.strict:
        wire["strict"] = True
    return wire


def _form(options: GenerationOptions) -> dict[str, Any]:
    """Only for a connection that says its models keep to schemas; else it was put into words."""
    form: Mapping[str, Any] = options.response_format or {}
    if form.get("type") != "json_schema":
        return {}
    schema = form.get("json_schema", {}).get("schema", {})
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def _think(body: dict[str, Any], call: ModelCall, model: str, dialect: Dialect) -> None:
    """The caller's limit is on what is said: room to think comes on top of it."""
    effort = call.options.reasoning_effort
    if effort in (None, "none") or dialect.thinking == "off":
        return
    if effort not in _BUDGETS:
        raise InvalidValue(
            f"`reasoning_effort` is one of none, {', '.join(_BUDGETS)}.", param="reasoning_effort"
        )
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        return  # The API does not let a model think before a call that it is forced to make.
    by_budget = dialect.thinking == "budget" or (
        dialect.thinking == "auto" and _BUDGETED.match(model) is not None
    )
    if by_budget and _in_tool_loop(body):
        return  # It would want the thoughts before the calls, which nobody keeps.
    body["max_tokens"] += _BUDGETS[effort]
    body.pop("temperature", None)
    if body.get("top_p", 1) < _LEAST_TOP_P_THINKING:
        del body["top_p"]
    if by_budget:
        body["thinking"] = {"type": "enabled", "budget_tokens": _BUDGETS[effort]}
    else:
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
        body.setdefault("output_config", {})["effort"] = _EFFORTS[effort]


def _in_tool_loop(body: dict[str, Any]) -> bool:
    return any(block["type"] == "tool_result" for block in body["messages"][-1]["content"])


def _cache(body: dict[str, Any], options: GenerationOptions) -> None:
    """A caller that says how to cache wants it: up to the system prompt, and up to the end."""
    asked = options.prompt_cache_options or {}
    wanted = options.prompt_cache_key or options.prompt_cache_retention or asked
    if not wanted:
        return
    control: dict[str, Any] = {"type": "ephemeral"}
    if options.prompt_cache_retention in _LONG_RETENTION or asked.get("ttl") in _LONG_RETENTION:
        control["ttl"] = "1h"
    if "system" in body:
        body["system"][-1] = {**body["system"][-1], "cache_control": control}
    last = body["messages"][-1]["content"]
    last[-1] = {**last[-1], "cache_control": control}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError
