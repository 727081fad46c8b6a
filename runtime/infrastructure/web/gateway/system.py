"""Gateway `/api/health` and `/api/tools`."""

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from runtime.application.queries.services import ServiceQueries, Services
from runtime.application.queries.tools import ToolQueries
from runtime.domain.services.tools import Approver, ToolTraits
from runtime.domain.value_objects.chat import ToolSpec
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.gateway.envelope import Envelope, Items, errors_of, request_id

router = APIRouter(prefix="/api", tags=["Gateway"], responses=errors_of(401, 403))


class ToolOut(BaseModel):
    tool_id: str
    name: str
    description: str
    parameters: dict[str, Any] = Field(description="JSON Schema of its arguments.")
    read_only: bool
    idempotent: bool = Field(description="A call may be repeated with the same idempotency key.")
    needs_approval: Approver | None = Field(
        description="Who agrees to each call; agents that have it run durably only."
    )

    @classmethod
    def of(cls, spec: ToolSpec, traits: ToolTraits) -> "ToolOut":
        return cls(
            tool_id=spec.name,
            name=spec.name,
            description=spec.description,
            parameters=dict(spec.parameters),
            read_only=traits.read_only,
            idempotent=traits.idempotent,
            needs_approval=traits.approval,
        )


class HealthData(BaseModel):
    status: str = Field(examples=["healthy"])
    services: dict[str, str] = Field(
        examples=[
            {
                "agent_service": "healthy",
                "model_service": "healthy",
                "tool_service": "healthy",
            }
        ]
    )


class GatewayHealth(HealthData):
    """The envelope, and what is in it once more beside it, for clients that look there."""

    request_id: str
    success: bool
    data: HealthData
    error: str | None = None

    @classmethod
    def of(cls, found: Services) -> "GatewayHealth":
        down = [name for name, status in found.services.items() if status == "unhealthy"]
        data = HealthData(status=found.status, services=dict(found.services))
        return cls(
            request_id=request_id(),
            success=not down,
            data=data,
            error=f"Down: {', '.join(down)}." if down else None,
            **data.model_dump(),
        )


@router.get("/health", responses={503: {"model": GatewayHealth}})
async def get_gateway_health(
    caller: Caller,
    response: Response,
    queries: Annotated[ServiceQueries, provided(lambda c: c.service_queries())],
) -> GatewayHealth:
    """The true state of each service; 503 when one that is needed is down."""
    health = GatewayHealth.of(await queries.get(caller))
    if not health.success:
        response.status_code = 503
    return health


@router.get("/tools")
async def list_tools(
    caller: Caller, queries: Annotated[ToolQueries, provided(lambda c: c.tool_queries())]
) -> Envelope[Items[ToolOut]]:
    """What can be named in `tools` of an agent."""
    found = [ToolOut.of(spec, traits) for spec, traits in queries.all(caller)]
    return Envelope.around(Items(items=found))
