"""What a durable run needs to be begun, as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from runtime.domain.entities.durable import RunOrder
from runtime.domain.value_objects.chat import GenerationOptions, ToolSpec
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import KeyId, ProjectId, UserId
from runtime.infrastructure.repositories.chat_json import message_json, message_of
from runtime.infrastructure.repositories.items import from_json, to_json


def order_json(order: RunOrder) -> dict[str, Any]:
    return {
        "caller": _caller_json(order.caller),
        "messages": [message_json(message) for message in order.messages],
        "options": _options_json(order.options),
        "session": order.session,
        "items": [to_json(item) for item in order.items],
        "metadata": order.metadata,
        "direct": order.direct,
        "response": order.response,
    }


def order_of(stored: Mapping[str, Any]) -> RunOrder:
    return RunOrder(
        caller=_caller_of(stored["caller"]),
        messages=[message_of(message) for message in stored["messages"]],
        options=_options_of(stored["options"]),
        session=stored["session"],
        items=[from_json(item) for item in stored["items"]],
        metadata=stored["metadata"],
        direct=stored["direct"],
        response=stored["response"],
    )


def _caller_json(caller: Principal) -> dict[str, Any]:
    limited = caller.limited_to
    return {
        "user_id": caller.user_id,
        "project_id": caller.project_id,
        "roles": sorted(caller.roles),
        "may_self_approve": caller.may_self_approve,
        "limited_to": None if limited is None else sorted(limited),
        "key_id": caller.key_id,
        "claims": caller.claims,
    }


def _caller_of(stored: Mapping[str, Any]) -> Principal:
    limited = stored["limited_to"]
    return Principal(
        UserId(stored["user_id"]),
        ProjectId(stored["project_id"]),
        frozenset(Role(role) for role in stored["roles"]),
        stored["may_self_approve"],
        None if limited is None else frozenset(KeyScope(scope) for scope in limited),
        KeyId(stored["key_id"]) if stored["key_id"] else None,
        stored["claims"],
    )


def _options_json(options: GenerationOptions) -> dict[str, Any]:
    given = dict(options.given())
    if tools := given.get("tools"):
        given["tools"] = [asdict(tool) for tool in tools]
    return given


def _options_of(stored: Mapping[str, Any]) -> GenerationOptions:
    given = dict(stored)
    if "tools" in given:
        given["tools"] = tuple(ToolSpec(**tool) for tool in given["tools"])
    if "stop" in given:
        given["stop"] = tuple(given["stop"])
    return GenerationOptions(**given)
