import ipaddress
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.requests import HTTPConnection
from starlette.types import Scope

from runtime.domain.services.identity import Authenticator
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.infrastructure.container import Container


async def authenticated(request: Request) -> Principal:
    """Raises Unauthenticated, DatabaseUnavailable."""
    container: Container = request.app.state.container
    authenticator: Authenticator = container.authenticator()
    return await authenticator.authenticate(carried(request), from_here=is_from_here(request.scope))


def carried(connection: HTTPConnection) -> set[str]:
    found = set(connection.headers.getlist("x-runtime-token"))
    for header in connection.headers.getlist("authorization"):
        scheme, _, value = header.partition(" ")
        found.add(value.strip() if scheme.lower() == "bearer" else header)
    return {token for token in found if token}


def is_from_here(scope: Scope) -> bool:
    """Whether both ends of the connection are on loopback."""
    return _is_loopback(scope.get("server")) and _is_loopback(scope.get("client"))


def _is_loopback(address: tuple[str, int | None] | None) -> bool:
    if address is None:
        return False
    if address[0] == "127.0.0.1":
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return False


Caller = Annotated[Principal, Depends(authenticated)]


def needs(scope: KeyScope) -> Any:  # noqa: ANN401 - FastAPI's marker has no public type
    """For routes whose work is not a command or query with the caller in it."""

    async def check(caller: Caller) -> None:
        caller.require_scope(scope)

    return Depends(check)
