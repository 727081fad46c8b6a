from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request

from runtime.infrastructure.container import Container

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


Limit = Annotated[int, Query(ge=1, le=200, description="Most items on the page.")]
After = Annotated[
    str | None, Query(max_length=500, description="The `next_cursor` of the page before.")
]
