"""`/api/streaming/providers`: providers as document C has them, each with one model."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from runtime.application.commands.providers import (
    PricedModel,
    ProviderFields,
    RegisterProvider,
    RemoveProvider,
)
from runtime.application.handlers.providers import RegisterProviderHandler, RemoveProviderHandler
from runtime.application.queries.providers import ProviderQueries
from runtime.domain.entities.providers import ProviderModel
from runtime.infrastructure.provider_shapes import ApiKey, BaseUrl, ModelName, Variable
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, not_a_route, provided
from runtime.infrastructure.web.gateway.envelope import GATEWAY_ERRORS, errors_of
from runtime.infrastructure.web.gateway.models import TYPES
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.providers_wire import ErrorOut, given

router = APIRouter(
    prefix="/api/streaming/providers",
    tags=["Streaming"],
    route_class=StrictRoute,
    responses=GATEWAY_ERRORS,
)
Queries = Annotated[ProviderQueries, provided(lambda c: c.provider_queries())]
Register = Annotated[RegisterProviderHandler, provided(lambda c: c.register_provider())]
Remove = Annotated[RemoveProviderHandler, provided(lambda c: c.remove_provider())]
Id = Annotated[str, Path(max_length=256), AfterValidator(not_a_route("health", "register"))]
EXAMPLE: dict[str, Any] = {
    "provider_id": "my-demo",
    "provider_type": "demo",
    "model_name": "demo",
}


class ProviderIn(BaseModel):
    """Fields that it does not know are let pass."""

    model_config = ConfigDict(
        strict=True, hide_input_in_errors=True, json_schema_extra={"examples": [EXAMPLE]}
    )

    provider_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    provider_type: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    model_name: ModelName | None = Field(default=None, description="Unset: the type's usual one.")
    api_key: ApiKey | None = Field(default=None, description="Stored encrypted, never shown.")
    api_key_env: Variable | None = None
    base_url: BaseUrl | None = None


class Done(BaseModel):
    success: Literal[True] = True
    message: str
    provider_id: str


class Registered(Done):
    provider_type: str
    model_name: str | None


class ProviderItem(BaseModel):
    provider_id: str
    provider_type: str
    model_name: str | None
    enabled: bool


class Listed(BaseModel):
    success: Literal[True] = True
    providers: list[ProviderItem]
    has_more: bool
    next_cursor: str | None


class Health(BaseModel):
    status: str
    provider_type: str
    latency_ms: float | None
    error: ErrorOut | None


class HealthOfAll(BaseModel):
    success: Literal[True] = True
    status: Literal["healthy", "degraded"] = Field(description="Healthy: all that are enabled are.")
    providers: dict[str, Health]


@router.post("/register", responses=errors_of(409, 413))
async def register_streaming_provider(
    body: ProviderIn, caller: Caller, handle: Register
) -> Registered:
    """Register a provider with its model, for agents and for the streaming door."""
    name = body.model_name
    provider = await handle(
        RegisterProvider(
            actor=caller,
            id=body.provider_id,
            type=TYPES.get(body.provider_type, body.provider_type),
            fields=ProviderFields(base_url=body.base_url, default_model=name),
            key=given(body.api_key, body.api_key_env),
            models=[PricedModel(ProviderModel(name=name, upstream_name=name))] if name else [],
        )
    )
    return Registered(
        message=f"Provider '{provider.id}' registered.",
        provider_id=provider.id,
        provider_type=provider.type,
        model_name=name,
    )


@router.get("")
async def list_streaming_providers(
    caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> Listed:
    """What `provider_id` may be, those that the operator set first."""
    page = await queries.page(caller, limit=limit, after=after)
    return Listed(
        providers=[
            ProviderItem(
                provider_id=view.provider.id,
                provider_type=view.provider.type,
                model_name=view.provider.default_model,
                enabled=view.provider.enabled,
            )
            for view in page.items
        ],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/health")
async def check_streaming_providers(caller: Caller, queries: Queries) -> HealthOfAll:
    """A short test call of each one that is enabled, for admins."""
    found = await queries.health(caller, probe=True)
    well = all(each.status in ("healthy", "disabled") for each in found)
    return HealthOfAll(
        status="healthy" if well else "degraded",
        providers={
            each.provider: Health(
                status=each.status,
                provider_type=each.type,
                latency_ms=None if each.latency_ms is None else round(each.latency_ms, 1),
                error=ErrorOut.of(each.error) if each.error else None,
            )
            for each in found
        },
    )


@router.delete("/{provider_id}", responses=errors_of(409))
async def remove_streaming_provider(provider_id: Id, caller: Caller, handle: Remove) -> Done:
    """Take it away, with its key. Refused while agents use it."""
    gone = await handle(RemoveProvider(actor=caller, id=provider_id))
    return Done(message=f"Provider '{gone.id}' removed.", provider_id=gone.id)
