"""Which conversation a chat completion is a turn of: chat clients say it in several ways."""

import re
from collections.abc import Mapping

from fastapi import Request

from runtime.application.commands.runs import SessionRef
from runtime.application.services.execution import Execution
from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.ids import UserId

HEADER = "X-Session-Id"
OPEN_WEBUI = "X-OpenWebUI-Chat-Id"
CONVERSATION = "X-Conversation-Id"
METADATA = "metadata.session_id"
_HEADERS = (HEADER, OPEN_WEBUI)
MAX_NAME = 256
_NAME = re.compile(rf"[!-~]([ -~]{{0,{MAX_NAME - 2}}}[!-~])?")
"""What can stand in a header, too: the answer names the session in one."""


def session_of(
    request: Request, metadata: Mapping[str, object], body: Mapping[str, str | None] | None = None
) -> SessionRef | None:
    """`body` has the names in fields of their own. Raises InvalidValue for a name that is none,
    and for two that disagree."""
    headers = request.headers
    given = [(header, name) for header in _HEADERS for name in headers.getlist(header)]
    given += [(field, name) for field, name in (body or {}).items() if name is not None]
    if (named := metadata.get("session_id")) is not None:
        given.append((METADATA, checked_name(named, METADATA)))
    if not given:
        return None
    names = {checked_name(name, where) for where, name in given}
    if len(names) > 1:
        places = " and ".join(dict.fromkeys(where for where, _ in given))
        raise InvalidValue(f"{places} names two different sessions.", param=given[0][0])
    return SessionRef(name=names.pop(), whole_history=OPEN_WEBUI in headers)


def user_of(metadata: Mapping[str, object]) -> UserId | None:
    """Whom a platform calls for. Raises InvalidValue for what can't be kept as an identifier."""
    named = metadata.get("user_id")
    if named is None:
        return None
    if not isinstance(named, str) or not 1 <= len(named) <= MAX_NAME:
        raise InvalidValue(f"It is 1-{MAX_NAME} characters.", param="metadata.user_id")
    return UserId(named)


def session_headers(ref: SessionRef | None, execution: Execution | None) -> dict[str, str]:
    if ref is None or execution is None or execution.session_id is None:
        return {}
    return {HEADER: ref.name, CONVERSATION: execution.session_id}


def checked_name(value: object, where: str) -> str:
    """Raises InvalidValue."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise InvalidValue(
        f"A session's name is 1-{MAX_NAME} printable ASCII characters, with no space at its ends.",
        param=where,
    )
