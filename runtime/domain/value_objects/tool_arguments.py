"""What a tool is called with, as text that can be compared and kept."""

import hashlib
import json


def canonical(arguments: str) -> str:
    """The same text for the same JSON; anything else as it is, as far as it can be kept."""
    try:
        return json.dumps(json.loads(arguments or "{}"), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return keepable(arguments)


def fingerprint(arguments: str) -> str:
    """SHA-256 of canonical arguments, in hex."""
    return hashlib.sha256(canonical(arguments).encode()).hexdigest()


def keepable(text: str) -> str:
    """Without what some database has no room for."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
