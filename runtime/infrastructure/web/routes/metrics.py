from typing import Annotated

from fastapi import APIRouter, Header, Response

from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.observing import Metrics
from runtime.infrastructure.web.routes.examples import errors_of

router = APIRouter(tags=["System"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={**errors_of(401), 200: {"content": {"text/plain": {}}}},
)
async def get_metrics(
    caller: Caller,
    metrics: Annotated[Metrics, provided(lambda c: c.exposition())],
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """For Prometheus, as text or as OpenMetrics."""
    text, content_type = await metrics.render(accept)
    return Response(text, headers={"Content-Type": content_type})
