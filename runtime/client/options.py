"""Whom a client talks to, as whom, and how long it waits."""

import os
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote, urlsplit

from runtime import __version__
from runtime.client.errors import BadRequestError

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "AGENT_RUNTIME_URL"
KEY_VARIABLE = "AGENT_RUNTIME_API_KEY"
CONNECT_S = 10.0
SILENCE_S = 60.0
"""Of a stream, which says something at least every 15 s, be it only a comment."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Options:
    base_url: str
    api_key: str | None = field(repr=False)
    timeout_s: float
    """Of an answer in one piece."""
    max_retries: int

    @classmethod
    def of(
        cls, base_url: str | None, api_key: str | None, timeout_s: float, max_retries: int
    ) -> Self:
        """Raises ValueError, in which the key is not."""
        url = (base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        key = os.environ.get(KEY_VARIABLE) if api_key is None else api_key
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"base_url is a runtime's address, such as {DEFAULT_URL}.")
        if parts.username or parts.password:
            raise ValueError("base_url takes no user or password; the key goes into api_key.")
        if key and not (key.isascii() and key.isprintable()):
            raise ValueError("api_key holds characters that no HTTP header can carry.")
        if max_retries < 0:
            raise ValueError("max_retries is 0 or more.")
        return cls(url, key or None, timeout_s, max_retries)

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"agent-runtime/{__version__}"}
        return headers | self.credential

    @property
    def credential(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    @property
    def through_proxies(self) -> bool:
        """As the environment names them; never to this machine."""
        return urlsplit(self.base_url).hostname not in _LOOPBACK

    def socket_url(self, user_id: str, session_id: str | None) -> str:
        address = f"ws{self.base_url.removeprefix('http')}/api/streaming/ws/{quoted(user_id)}"
        return f"{address}?session_id={quote(session_id, safe='')}" if session_id else address


def quoted(part: object) -> str:
    """An id as a part of a path. Raises BadRequestError for what would lead elsewhere."""
    text = str(part)
    if text in ("", ".", "..") or "/" in text:
        raise BadRequestError("An id is not empty, and has no '/' in it.")
    return quote(text, safe="@")
