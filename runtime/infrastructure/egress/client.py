"""One HTTP client for everything that leaves the runtime."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from runtime.domain.errors import EgressRefused, InvalidValue, UpstreamFailed, UpstreamTimeout
from runtime.infrastructure.egress.addresses import canonical
from runtime.infrastructure.egress.policy import EgressPolicy, Target, refused

_KEEP_ALIVE_S = 30
_REDIRECTS = (301, 302, 303, 307, 308)
_GO_ANYWHERE = ("accept", "accept-language", "content-type", "user-agent")
"""Headers that a redirect to another host keeps; a key may hide in any other one."""
_OURS = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
LARGEST_PIECE = 1024 * 1024
"""Bytes of a body that are sent at once."""
_FAULTS = (aiohttp.ClientError, HttpProcessingError, OSError)


@dataclass(frozen=True, slots=True)
class Credential:
    """A header that goes to one host (`host` or `host:port`, 443 if unset) and to no other."""

    host: str
    header: str
    value: str = field(repr=False)

    def fits(self, target: Target) -> bool:
        """Over https only, except to an address that an operator's setting names."""
        return target.origin == self._origin() and (target.named or target.url.scheme == "https")

    def _origin(self) -> tuple[str, int]:
        url = URL(f"https://{self.host}")
        return canonical(url.raw_host or ""), url.port or 0


@dataclass(frozen=True, slots=True)
class Fetched:
    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    """Where the answer came from, redirects followed."""


class EgressClient:
    """Names are resolved once and the connection goes to the address that was checked.

    No cookies, no proxies from the environment. One pool of connections for each event loop, made
    when it is needed and without a limit of its own, which would be a hidden queue.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        connect_s: float = 10,
        resolver: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver,
    ) -> None:
        self._policy = policy
        self._connect_s = connect_s
        self._resolver = resolver
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.TCPConnector] = (
            WeakKeyDictionary()
        )

    def endpoint(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        credential: Credential | None = None,
        connect_s: float | None = None,
    ) -> "Endpoint":
        """Raises EgressRefused for an address, or a pair of address and key, that is not called."""
        target = self._policy.check(url)
        sent = {**(headers or {}), **_attached(credential, target, first=True)}
        return Endpoint(self, target, sent, connect_s or self._connect_s)

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        credential: Credential | None = None,
        max_bytes: int = 1_000_000,
        cut: bool = False,
        timeout_s: float = 30,
        max_redirects: int | None = 5,
    ) -> Fetched:
        """The whole answer, whatever its status; `timeout_s` is for everything together.

        `cut`: of an answer longer than `max_bytes` the beginning, of a compressed one nothing,
        instead of a refusal. `max_redirects` None: a redirect is an answer like others.

        Redirects are checked like the first address; to another host go neither the credential
        nor any header but the harmless ones. Raises EgressRefused, InvalidValue for headers that
        can't be sent, UpstreamFailed (also for more than `max_bytes`), UpstreamTimeout.
        """
        first = target = self._policy.check(url)
        given = _sendable(headers or {})
        try:
            async with asyncio.timeout(timeout_s), self.session(self._connect_s) as session:
                for hop in range((max_redirects or 0) + 1):
                    sent = given | _attached(credential, target, first=hop == 0)
                    async with session.request(
                        method,
                        target.url,
                        headers=sent,
                        data=body,
                        allow_redirects=False,
                        auto_decompress=False,
                    ) as response:
                        location = response.headers.get("Location")
                        moved = response.status in _REDIRECTS and max_redirects is not None
                        if not moved or not location:
                            return await _whole(response, target, max_bytes, cut=cut)
                    before, target = target, self._policy.follow(target, location)
                    if target.origin != before.origin or target.url.scheme != before.url.scheme:
                        given = {k: v for k, v in given.items() if k.lower() in _GO_ANYWHERE}
                    if response.status == 303 or (response.status < 303 and method == "POST"):
                        method, body = "HEAD" if method == "HEAD" else "GET", None
        except TimeoutError as error:
            raise UpstreamTimeout(f"'{first.host}' did not answer in time.") from error
        except _FAULTS as error:
            raise UpstreamFailed(f"'{target.host}' could not be reached, or broke off.") from error
        raise UpstreamFailed(f"'{first.host}' redirects more than {max_redirects} times.")

    def session(
        self, connect_s: float, headers: Mapping[str, str] | None = None
    ) -> aiohttp.ClientSession:
        """On the pool of the running loop, which outlives it."""
        return aiohttp.ClientSession(
            connector=self._pool(),
            connector_owner=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_s),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()

    def _pool(self) -> aiohttp.TCPConnector:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            resolver = _GuardedResolver(self._policy, self._resolver())
            pool = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, resolver=resolver)
            self._pools[loop] = pool
        return pool


class Endpoint:
    """One checked origin with its headers; what is sent here goes nowhere else."""

    def __init__(
        self, client: EgressClient, target: Target, headers: Mapping[str, str], connect_s: float
    ) -> None:
        self._client = client
        self._url = target.url
        self._headers = headers
        self._connect_s = connect_s
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, body: bytes, headers: Mapping[str, str], url: URL | None = None
    ) -> aiohttp.ClientResponse:
        """To `url`, if it is given: another path of the same origin.

        Redirects are answers like others. Raises EgressRefused, and what aiohttp raises.
        """
        if url is not None and url.origin() != self._url.origin():
            raise EgressRefused(url.host or "", "it is not where this endpoint is.")
        if self._session is None:
            self._session = self._client.session(self._connect_s, self._headers)
        # A large body is read in pieces: in one it would hold the loop, and aiohttp warns of it.
        data = BytesIO(body) if len(body) > LARGEST_PIECE else body
        return await self._session.post(
            url or self._url, data=data, headers=headers, allow_redirects=False
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class _GuardedResolver(AbstractResolver):
    """What it returns is what the connector connects to: nobody resolves a second time."""

    def __init__(self, policy: EgressPolicy, names: AbstractResolver) -> None:
        self._policy = policy
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        open_ = [each for each in found if self._policy.permits(host, port, each["host"])]
        if not open_:
            raise refused(host)
        return open_

    async def close(self) -> None:
        await self._names.close()


def _attached(credential: Credential | None, target: Target, *, first: bool) -> dict[str, str]:
    if credential is None:
        return {}
    if credential.fits(target):
        return {credential.header: credential.value}
    if first:
        raise EgressRefused(target.host, "a key goes to its own host only, and over https.")
    return {}


def _sendable(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not name.isascii() or not f"{name}{value}".isprintable() or name.lower() in _OURS:
            raise InvalidValue("A header of an outgoing call can't be sent.", param="headers")
    return {"Accept-Encoding": "identity", "User-Agent": "agent-runtime", **headers}


async def _whole(
    response: aiohttp.ClientResponse, target: Target, max_bytes: int, *, cut: bool
) -> Fetched:
    body = bytearray()
    headers = {name.lower(): value for name, value in response.headers.items()}
    if headers.get("content-encoding", "identity").lower() != "identity":
        if not cut:
            raise UpstreamFailed(f"'{target.host}' answered compressed, which was not asked for.")
        response.close()
        return Fetched(response.status, headers, b"", str(target.url))
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > max_bytes:
            if not cut:
                raise UpstreamFailed(f"'{target.host}' sent more than {max_bytes} bytes.")
            response.close()
            break
    return Fetched(response.status, headers, bytes(body[:max_bytes]), str(target.url))
