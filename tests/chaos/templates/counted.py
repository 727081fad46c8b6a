"""Tools whose work is done, and counted, somewhere else."""

import json
import os
from urllib.request import ProxyHandler, Request, build_opener

from runtime.tools import tool, tool_call

OPENER = build_opener(ProxyHandler({}))


def _post(name: str, token: str, key: str) -> str:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    body = json.dumps({"token": token}).encode()
    request = Request(f"{os.environ['CHAOS_TOOLS_URL']}/{name}", body, headers)
    with OPENER.open(request, timeout=20) as answer:
        return str(answer.read().decode())


@tool
def charge(token: str) -> str:
    """Must not be called twice for one token."""
    return _post("charge", token, tool_call().idempotency_key)


@tool(idempotent=True)
def lookup(token: str) -> str:
    """May be called again for a token, under the same key."""
    return _post("lookup", token, tool_call().idempotency_key)
