from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, Request

from runtime.domain.errors import Unauthenticated
from runtime.domain.value_objects.identity import LOCAL_ADMIN, PLATFORM, Principal
from runtime.infrastructure.container import Container


async def authenticated(request: Request) -> Principal:
    """Who calls. Without a configured credential only loopback is served, to the local admin.

    Raises Unauthenticated.
    """
    container: Container = request.app.state.container
    accepted: tuple[str, ...] = container.settings().tokens
    if not accepted:
        return LOCAL_ADMIN
    carried = _carried(request)
    if not carried:
        raise Unauthenticated(
            "A token is needed: send it as 'X-Runtime-Token' or 'Authorization: Bearer'."
        )
    if len(carried) > 1:
        raise Unauthenticated("Two different tokens were sent; send one.")
    (token,) = carried
    # Every accepted token is compared, so that the time tells nothing about which one matched.
    if not any([compare_digest(token.encode(), each.encode()) for each in accepted]):
        raise Unauthenticated("The token is not valid.")
    return PLATFORM


def _carried(request: Request) -> set[str]:
    carried = set(request.headers.getlist("x-runtime-token"))
    for header in request.headers.getlist("authorization"):
        scheme, _, value = header.partition(" ")
        carried.add(value.strip() if scheme.lower() == "bearer" else header)
    return {token for token in carried if token}


Caller = Annotated[Principal, Depends(authenticated)]
