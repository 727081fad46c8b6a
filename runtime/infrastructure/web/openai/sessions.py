"""Which conversation a chat completion is a turn of: chat clients say it in several ways."""

import re
from collections.abc import Mapping

from fastapi import Request

from runtime.application.commands.runs import SessionRef
from runtime.application.services.engine import Execution
from runtime.domain.errors import InvalidValue

HEADER = "X-Session-Id"
OPEN_WEBUI = "X-OpenWebUI-Chat-Id"
CONVERSATION = "X-Conversation-Id"
METADATA = "metadata.session_id"
_HEADERS = (HEADER, OPEN_WEBUI)
MAX_NAME = 256
_NAME = re.compile(rf"[!-~]([ -~]{{0,{MAX_NAME - 2}}}[!-~])?")
"""What can stand in a header, too: the answer names the session in one."""


def session_of(request: Request, metadata: Mapping[str, object]) -> SessionRef | None:
    """Raises InvalidValue for a name that is none, and for two that disagree."""
    headers = request.headers
    given = [(header, name) for header in _HEADERS for name in headers.getlist(header)]
    if (named := metadata.get("session_id")) is not None:
        given.append((METADATA, _checked(METADATA, named)))
    if not given:
        return None
    names = {_checked(where, name) for where, name in given}
    if len(names) > 1:
        places = " and ".join(dict.fromkeys(where for where, _ in given))
        raise InvalidValue(f"{places} names two different sessions.", param=given[0][0])
    return SessionRef(name=names.pop(), whole_history=OPEN_WEBUI in headers)


def session_headers(ref: SessionRef | None, execution: Execution) -> dict[str, str]:
    if ref is None or execution.session_id is None:
        return {}
    return {HEADER: ref.name, CONVERSATION: execution.session_id}


def _checked(where: str, value: object) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise InvalidValue(
        f"A session's name is 1-{MAX_NAME} printable ASCII characters, with no space at its ends.",
        param=where,
    )
