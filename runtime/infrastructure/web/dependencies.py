from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from runtime.infrastructure.container import Container
from runtime.infrastructure.web.websocket.services import Services

T = TypeVar("T")


def provided(pick: Callable[[Container], T]) -> Any:  # noqa: ANN401 - FastAPI's marker has no public type
    """`Annotated[X, provided(lambda c: c.x())]`: X from the container of the app being called.

    `@inject` resolves through module globals, so two apps in one process share the last container.
    """

    # Async although it awaits nothing: FastAPI sends a plain function to a thread, every time.
    async def dependency(request: Request) -> T:
        container: Container = request.app.state.container
        return pick(container)

    return Depends(dependency)


def websocket_services(connection: HTTPConnection) -> Services:
    container: Container = connection.app.state.container
    settings = container.settings()
    return Services(
        authenticator=container.authenticator(),
        connections=container.connections(),
        live_streams=container.live_streams(),
        stream_chat=container.stream_chat(),
        give_feedback=container.give_feedback(),
        max_requests=settings.ws_max_requests,
        idle_s=settings.ws_idle_s,
    )


Limit = Annotated[int, Query(ge=1, le=200, description="Most items on the page.")]
After = Annotated[
    str | None, Query(max_length=500, description="The `next_cursor` of the page before.")
]


def not_a_route(*names: str) -> Callable[[str], str]:
    """For a path parameter beside which fixed paths stand, of which this method is none."""

    def check(value: str) -> str:
        if value in names:
            raise HTTPException(405, "Method Not Allowed")
        return value

    return check
