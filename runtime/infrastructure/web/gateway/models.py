"""`/api/models`: a model with where it is served, as document B has them.

Each is a provider of its own, whose id is the model's; agents name it by that alone.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from runtime.application.commands.providers import (
    PricedModel,
    ProviderFields,
    RegisterProvider,
    RemoveProvider,
)
from runtime.application.handlers.providers import RegisterProviderHandler, RemoveProviderHandler
from runtime.application.queries.providers import ProviderQueries, ProviderView
from runtime.domain.entities.providers import ProviderModel
from runtime.domain.value_objects.providers import Capabilities, EnvironmentKey
from runtime.infrastructure.provider_shapes import MOST_TOKENS, ApiKey, BaseUrl, ModelName, Variable
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.gateway.envelope import (
    GATEWAY_ERRORS,
    Envelope,
    Items,
    errors_of,
)
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.providers_wire import given

router = APIRouter(
    prefix="/api/models", tags=["Gateway"], route_class=StrictRoute, responses=GATEWAY_ERRORS
)
Queries = Annotated[ProviderQueries, provided(lambda c: c.provider_queries())]
Register = Annotated[RegisterProviderHandler, provided(lambda c: c.register_provider())]
Remove = Annotated[RemoveProviderHandler, provided(lambda c: c.remove_provider())]
ModelId = Annotated[str, Path(max_length=256)]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
TYPES = {"azure": "azure_openai"}
"""Other words for a type of provider."""
EXAMPLE: dict[str, Any] = {
    "model_id": "my-model",
    "provider": "demo",
    "model_type": "chat",
    "display_name": "My model",
    "capabilities": {"supports_streaming": True, "supports_function_calling": True},
    "provider_model_id": "demo",
}


class CapabilitiesIO(BaseModel):
    model_config = ConfigDict(strict=True)

    supports_streaming: bool | None = None
    supports_function_calling: bool | None = None
    supports_json_mode: bool | None = None
    supports_vision: bool | None = None
    supports_embeddings: bool | None = None
    max_tokens: Tokens | None = None
    context_window: Tokens | None = None

    def capabilities(self) -> Capabilities:
        return Capabilities(
            streaming=self.supports_streaming,
            tools=self.supports_function_calling,
            json_mode=self.supports_json_mode,
            vision=self.supports_vision,
            embeddings=self.supports_embeddings,
            max_tokens=self.max_tokens,
            context_window=self.context_window,
        )

    @classmethod
    def of(cls, able: Capabilities) -> "CapabilitiesIO":
        return cls(
            supports_streaming=able.streaming,
            supports_function_calling=able.tools,
            supports_json_mode=able.json_mode,
            supports_vision=able.vision,
            supports_embeddings=able.embeddings,
            max_tokens=able.max_tokens,
            context_window=able.context_window,
        )


class ModelIn(BaseModel):
    """Fields that it does not know are let pass."""

    model_config = ConfigDict(
        strict=True, hide_input_in_errors=True, json_schema_extra={"examples": [EXAMPLE]}
    )

    model_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    provider: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    model_type: Literal["chat", "completion", "embedding"] = "chat"
    display_name: Annotated[str, StringConstraints(max_length=200)] = ""
    capabilities: CapabilitiesIO = CapabilitiesIO()
    provider_model_id: ModelName | None = Field(default=None, description="Unset: `model_id`.")
    api_key_env_var: Variable | None = Field(
        default=None, description="The variable of the runtime's environment that has the key."
    )
    api_key: ApiKey | None = Field(default=None, description="Stored encrypted, never shown.")
    base_url: BaseUrl | None = None


class ModelOut(BaseModel):
    model_id: str
    provider: str
    model_type: Literal["chat", "embedding"]
    display_name: str
    capabilities: CapabilitiesIO
    provider_model_id: str | None = Field(description="Null: the provider's usual one.")
    api_key_env_var: str | None
    base_url: str | None = Field(description="To admins; null for the provider's own.")
    enabled: bool

    @classmethod
    def of(cls, view: ProviderView) -> "ModelOut":
        provider, key = view.provider, view.provider.key
        model = next(
            (each for each in provider.models if each.name == provider.default_model), None
        )
        able = model.capabilities if model else Capabilities()
        return cls(
            model_id=provider.id,
            provider=provider.type,
            model_type="embedding" if able.embeddings else "chat",
            display_name=(model and model.display_name) or provider.id,
            capabilities=CapabilitiesIO.of(able),
            provider_model_id=model.upstream_name if model else provider.default_model,
            api_key_env_var=key.variable if isinstance(key, EnvironmentKey) else None,
            base_url=provider.base_url if view.shows_address else None,
            enabled=provider.enabled and (model is None or model.enabled),
        )


class Gone(BaseModel):
    model_id: str
    deleted: Literal[True] = True


@router.post("", responses=errors_of(409, 413))
async def register_model(
    body: ModelIn, caller: Caller, queries: Queries, handle: Register
) -> Envelope[ModelOut]:
    """Register a model with the provider that serves it. Agents name it by `model_id`."""
    name = body.provider_model_id or body.model_id
    able = body.capabilities.capabilities()
    fields = ProviderFields(base_url=body.base_url, default_model=name)
    if body.model_type == "embedding":
        able = (
            CapabilitiesIO.of(able).model_copy(update={"supports_embeddings": True}).capabilities()
        )
        fields["default_embedding_model"] = name
    model = ProviderModel(
        name=name, upstream_name=name, display_name=body.display_name, capabilities=able
    )
    provider = await handle(
        RegisterProvider(
            actor=caller,
            id=body.model_id,
            type=TYPES.get(body.provider, body.provider),
            fields=fields,
            key=given(body.api_key, body.api_key_env_var),
            models=[PricedModel(model)],
        )
    )
    return Envelope.around(ModelOut.of(queries.view(caller, provider)))


@router.get("")
async def list_models(
    caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> Envelope[Items[ModelOut]]:
    """Every provider with its default model, those that the operator set first."""
    page = await queries.page(caller, limit=limit, after=after)
    items = Items(
        items=[ModelOut.of(view) for view in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )
    return Envelope.around(items)


@router.get("/{model_id}")
async def get_model(model_id: ModelId, caller: Caller, queries: Queries) -> Envelope[ModelOut]:
    """One of them."""
    return Envelope.around(ModelOut.of(await queries.get(caller, model_id)))


@router.delete("/{model_id}", responses=errors_of(409))
async def remove_model(model_id: ModelId, caller: Caller, handle: Remove) -> Envelope[Gone]:
    """Take it away with its provider. Refused while agents use it."""
    gone = await handle(RemoveProvider(actor=caller, id=model_id))
    return Envelope.around(Gone(model_id=gone.id))
