"""An issuer's public keys (RFC 7517), read when they are needed and again when one is unknown."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import jwt
import orjson

from runtime.domain.errors import TokenKeysUnavailable
from runtime.infrastructure.identity.jwt import Keys

logger = logging.getLogger(__name__)

Fetch = Callable[[], Awaitable[bytes]]
"""Raises OSError, TimeoutError or ValueError."""

MAX_BYTES = 1_000_000
FETCH_S = 5.0
FRESH_S = 600.0
KEEP_S = 3_600.0
"""A key that the issuer withdrew is believed for ten minutes; while the issuer is away, an hour."""
AGAIN_AFTER_S = 10.0
"""Unknown key ids make no more requests than one in this time."""
FAMILIES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class KeySet(Keys):
    """Keys that can't verify a signature, or that nobody may know, are left out."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: list[Mapping[str, Any]] = []
        self._fresh_until = self._good_until = float("-inf")
        self._next_fetch = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> Any:  # noqa: ANN401 - as in Keys
        """Raises TokenKeysUnavailable while there are none to look in."""
        key = self._known(kid, algorithm)
        if key is None or self._clock() >= self._fresh_until:
            await self._refresh()
            key = self._known(kid, algorithm)
        if self._clock() >= self._good_until:
            raise TokenKeysUnavailable
        return jwt.PyJWK(dict(key), algorithm) if key else None

    def _known(self, kid: str | None, algorithm: str) -> Mapping[str, Any] | None:
        """Without a `kid`, the only key that fits."""
        family = FAMILIES.get(algorithm[:2])
        fitting = [
            key
            for key in self._keys
            if key["kty"] == family and key.get("alg", algorithm) == algorithm
        ]
        if kid is not None:
            fitting = [key for key in fitting if key.get("kid") == kid]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self) -> None:
        async with self._fetching:
            if self._clock() < self._next_fetch:
                return
            self._next_fetch = self._clock() + AGAIN_AFTER_S
            try:
                self._keys = list(_usable(orjson.loads(await self._fetch())))
            except (OSError, TimeoutError, ValueError, aiohttp.ClientError) as error:
                logger.warning("the keys that JWTs are checked with can't be read: %s", error)
            else:
                self._fresh_until = self._clock() + FRESH_S
                self._good_until = self._clock() + KEEP_S


def from_url(url: str) -> Fetch:
    """A client of its own for each request: there is one in ten seconds at most."""

    async def fetch() -> bytes:
        limit = aiohttp.ClientTimeout(total=FETCH_S)
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ValueError(f"the address answers {response.status}")
            return await _bounded(response)

    return fetch


def from_file(path: Path) -> Fetch:
    async def fetch() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return fetch


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise ValueError("there is too much of it")
    return body


def _usable(found: object) -> Iterator[Mapping[str, Any]]:
    """Raises ValueError for what is no key set."""
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list):
        raise ValueError("it is no JSON Web Key Set")
    for key in keys:
        if not isinstance(key, dict) or key.get("kty") not in FAMILIES.values():
            continue
        if key.get("use", "sig") == "sig":
            yield key
