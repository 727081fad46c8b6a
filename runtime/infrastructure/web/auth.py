import ipaddress
from typing import Annotated, Any

from fastapi import Depends, Request

from runtime.domain.services.identity import Authenticator
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.infrastructure.container import Container


async def authenticated(request: Request) -> Principal:
    """Raises Unauthenticated, DatabaseUnavailable."""
    container: Container = request.app.state.container
    authenticator: Authenticator = container.authenticator()
    carried = _carried(request)
    from_here = _is_loopback(request.scope.get("server")) and _is_loopback(
        request.scope.get("client")
    )
    return await authenticator.authenticate(carried, from_here=from_here)


def _carried(request: Request) -> set[str]:
    carried = set(request.headers.getlist("x-runtime-token"))
    for header in request.headers.getlist("authorization"):
        scheme, _, value = header.partition(" ")
        carried.add(value.strip() if scheme.lower() == "bearer" else header)
    return {token for token in carried if token}


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
