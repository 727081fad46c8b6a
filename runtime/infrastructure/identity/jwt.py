"""JWTs (RFC 7519) as principals, by a shared secret or by the issuer's published keys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import jwt

from runtime.domain.errors import Unauthenticated
from runtime.domain.services.identity import TokenVerifier, VerifiedToken
from runtime.domain.value_objects.identity import DEFAULT_PROJECT, Principal, Role
from runtime.domain.value_objects.ids import ProjectId, UserId

MAX_TOKEN = 16_384
MAX_ID = 256
_LIFETIME = ("exp", "nbf", "iat")


class Keys(Protocol):
    async def find(self, kid: str | None, algorithm: str) -> Any:  # noqa: ANN401 - as PyJWT takes it
        """What verifies a signature of that algorithm; None when there is no such key."""


@dataclass(frozen=True, slots=True)
class SharedSecret(Keys):
    secret: bytes

    async def find(self, kid: str | None, algorithm: str) -> bytes:
        return self.secret


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """A dotted name leads into an object: `realm_access.roles`."""

    user: str = "sub"
    project: str = "project_id"
    roles: str = "roles"


@dataclass(frozen=True, slots=True)
class JwtVerifier(TokenVerifier):
    """Only pinned algorithms, only with an expiry; an extension in `crit` is never understood."""

    keys: Keys
    algorithms: Sequence[str]
    issuer: str | None
    audience: str | None
    leeway_s: float
    names: ClaimNames

    async def verify(self, token: str) -> VerifiedToken:
        try:
            return self._principal(await self._claims(token))
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise Unauthenticated(_reason(error)) from error

    async def _claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > MAX_TOKEN:
            raise jwt.DecodeError
        header = jwt.get_unverified_header(token)
        algorithm = str(header.get("alg"))
        if algorithm not in self.algorithms or "crit" in header:
            raise jwt.InvalidTokenError
        key = await self.keys.find(header.get("kid"), algorithm)
        if key is None:
            raise jwt.InvalidTokenError
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=self.issuer,
            audience=self.audience,
            leeway=self.leeway_s,
            options={"require": ["exp"]},
        )
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> VerifiedToken:
        user = _identifier(_claim(claims, self.names.user))
        project = _claim(claims, self.names.project)
        principal = Principal(
            UserId(user),
            DEFAULT_PROJECT if project is None else ProjectId(_identifier(project)),
            _roles(_claim(claims, self.names.roles)),
            claims={name: value for name, value in claims.items() if name not in _LIFETIME},
        )
        expires = datetime.fromtimestamp(float(claims["exp"]) + self.leeway_s, UTC)
        return VerifiedToken(principal, expires)


def _claim(claims: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - it is JSON
    """A name as it stands wins over one that leads into an object."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _identifier(value: object) -> str:
    """Raises InvalidTokenError for what can't stand for somebody."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or not value.isprintable():
        raise jwt.InvalidTokenError
    return value


def _roles(value: object) -> frozenset[Role]:
    """Roles that are not ours are others' business."""
    named: Iterable[object] = value.replace(",", " ").split() if isinstance(value, str) else ()
    if isinstance(value, list):
        named = value
    known = {role.value: role for role in Role}
    found = (known.get(name) for name in named if isinstance(name, str))
    return frozenset(role for role in found if role) or frozenset({Role.VIEWER})


def _reason(error: Exception) -> str:
    """Only what the token's own holder can see in it."""
    if isinstance(error, jwt.ExpiredSignatureError):
        return "The token has expired."
    return "The token is not valid."
