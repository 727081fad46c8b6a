"""What both sockets say of a connection that does not come about."""

import json
from typing import TYPE_CHECKING

from runtime.client.errors import ConnectionFailedError, RuntimeClientError, refusal
from runtime.client.options import Options

if TYPE_CHECKING:
    from websockets.http11 import Response

HANDSHAKE = 10.0
"""Seconds from the open connection to its `connected`."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


def denied(response: "Response") -> RuntimeClientError:
    try:
        body = json.loads(response.body or b"")
    except ValueError:
        body = None
    request_id = response.headers.get("x-request-id")
    return refusal(response.status_code, body, request_id=request_id)


def unreachable(options: Options, error: Exception) -> ConnectionFailedError:
    return ConnectionFailedError(
        f"No runtime answers at {options.base_url} ({type(error).__name__})."
    )
