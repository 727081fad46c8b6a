"""Providers as JSON."""

from datetime import datetime
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from runtime.application.commands.providers import (
    GivenKey,
    ModelFields,
    PricedModel,
    ProviderFields,
)
from runtime.application.queries.providers import Condition, ProviderView
from runtime.domain.entities.providers import ProviderModel
from runtime.domain.errors import DomainError
from runtime.domain.services.models import ModelHealth, Probed
from runtime.domain.services.providers import ProviderType
from runtime.domain.value_objects.limits import Price
from runtime.domain.value_objects.providers import EnvironmentKey
from runtime.infrastructure.provider_shapes import (
    ApiKey,
    BaseUrl,
    CapabilitiesShape,
    FallbackShape,
    ModelName,
    ModelShape,
    Options,
    Shape,
    StructuredOutput,
    TuningShape,
    Variable,
    formats_of,
    kept_to_by,
)
from runtime.infrastructure.web.errors import understand
from runtime.infrastructure.web.routes.prices import PricePut

MOST_MODELS = 200
MODEL_EXAMPLE: dict[str, Any] = {
    "name": "fast",
    "upstream_name": "gpt-4.1-mini",
    "capabilities": {"streaming": True, "tools": True, "context_window": 128_000},
    "fallbacks": [{"model": "demo"}],
}
EXAMPLE: dict[str, Any] = {"id": "trial", "type": "demo", "models": [MODEL_EXAMPLE]}
Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Type = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ModelPut(ModelShape):
    model_config = ConfigDict(json_schema_extra={"examples": [{"upstream_name": "gpt-4.1-mini"}]})

    price: PricePut | None = Field(default=None, description="Unset: as it was.")

    def priced(self, name: str) -> PricedModel:
        return PricedModel(self.model(name), self.new_price)

    @property
    def new_price(self) -> Price | None:
        return self.price.price() if self.price else None


class ModelPatch(ModelPut):
    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    def fields(self, name: str) -> ModelFields:
        """What was sent."""
        whole = self.model(name)
        names = self.model_fields_set & ModelFields.__annotations__.keys()
        return cast(ModelFields, {each: getattr(whole, each) for each in names})


class ModelCreate(ModelPut):
    model_config = ConfigDict(json_schema_extra={"examples": [MODEL_EXAMPLE]})

    name: ModelName


class ProviderPatch(Shape):
    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    type: Type | None = None
    base_url: BaseUrl | None = Field(default=None, description="Null: the type's own.")
    api_key: ApiKey | None = Field(
        default=None, description="Stored encrypted, and never shown. Null: none."
    )
    api_key_env: Variable | None = Field(
        default=None, description="Of the runtime's environment: the variable that has the key."
    )
    default_model: ModelName | None = None
    default_embedding_model: ModelName | None = None
    structured_output: StructuredOutput | None = Field(
        default=None, description="What its models keep to by themselves. Null: the type's own."
    )
    options: Options | None = None
    tuning: TuningShape | None = None
    enabled: bool | None = None

    def fields(self) -> ProviderFields:
        """What was sent; null for what must be there stands for nothing."""
        found = ProviderFields()
        sent = self.model_fields_set
        if self.type is not None:
            found["type"] = self.type
        if "base_url" in sent:
            found["base_url"] = self.base_url
        if "default_model" in sent:
            found["default_model"] = self.default_model
        if "default_embedding_model" in sent:
            found["default_embedding_model"] = self.default_embedding_model
        if "structured_output" in sent:
            found["formats"] = formats_of(self.structured_output)
        if "options" in sent:
            found["options"] = self.options or {}
        if "tuning" in sent:
            found["tuning"] = (self.tuning or TuningShape()).tuning()
        if self.enabled is not None:
            found["enabled"] = self.enabled
        return found

    def key(self) -> GivenKey | None:
        """None: nothing was said of it."""
        if not self.model_fields_set & {"api_key", "api_key_env"}:
            return None
        return given(self.api_key, self.api_key_env)


class ProviderCreate(ProviderPatch):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: Id = Field(description="What stands before the slash in `provider/name`.")
    type: Type
    models: Annotated[list[ModelCreate], Field(max_length=MOST_MODELS)] = []  # noqa: RUF012 - pydantic copies it


class TrialIn(Shape):
    model_config = ConfigDict(json_schema_extra={"examples": [{}]})

    model: ModelName | None = Field(default=None, description="Unset: its default.")


class KeyOut(BaseModel):
    source: Literal["environment", "stored", "settings"]
    variable: str | None = None


class ModelOut(BaseModel):
    id: str = Field(description="What agents name.")
    name: str
    upstream_name: str
    display_name: str
    capabilities: CapabilitiesShape
    enabled: bool
    fallbacks: list[FallbackShape]
    routing: str
    weight: int
    price: PricePut | None = Field(description="Where one model or provider is asked for.")

    @classmethod
    def of(cls, provider: str, model: ProviderModel, price: Price | None = None) -> "ModelOut":
        able = model.capabilities
        return cls(
            id=f"{provider}/{model.name}",
            name=model.name,
            upstream_name=model.upstream_name,
            display_name=model.display_name,
            capabilities=CapabilitiesShape(
                **{name: getattr(able, name) for name in CapabilitiesShape.model_fields}
            ),
            enabled=model.enabled,
            fallbacks=[
                FallbackShape(model=each.model, weight=each.weight) for each in model.fallbacks
            ],
            routing=model.routing,
            weight=model.weight,
            price=_priced(price) if price else None,
        )


class ProviderOut(BaseModel):
    id: str
    type: str
    managed_by: Literal["operator", "project"]
    base_url: str | None = Field(description="To admins; null for the type's own.")
    key: KeyOut | None = Field(description="Whether there is one and where; never the key.")
    default_model: str | None
    default_embedding_model: str | None
    structured_output: StructuredOutput | None
    options: dict[str, Any] | None = Field(description="To admins.")
    tuning: TuningShape
    enabled: bool
    models: list[ModelOut]
    created_at: datetime | None
    created_by: str | None
    updated_at: datetime | None

    @classmethod
    def of(cls, view: ProviderView) -> "ProviderOut":
        provider, ours = view.provider, not view.operators
        tuning = {name: getattr(provider.tuning, name) for name in TuningShape.model_fields}
        return cls(
            id=provider.id,
            type=provider.type,
            managed_by="project" if ours else "operator",
            base_url=provider.base_url if view.shows_address else None,
            key=key_of(view),
            default_model=provider.default_model,
            default_embedding_model=provider.default_embedding_model,
            structured_output=kept_to_by(provider.formats),
            options=dict(provider.options) if view.shows_address else None,
            tuning=TuningShape(**tuning),
            enabled=provider.enabled,
            models=[
                ModelOut.of(provider.id, model, view.prices.get(model.name))
                for model in provider.models
            ],
            created_at=provider.created_at if ours else None,
            created_by=provider.owner_id if ours else None,
            updated_at=provider.updated_at if ours else None,
        )


class ProviderList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ProviderOut]
    has_more: bool
    next_cursor: str | None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]


class Removed(BaseModel):
    id: str
    deleted: Literal[True] = True


class ErrorOut(BaseModel):
    code: str
    message: str

    @classmethod
    def of(cls, error: DomainError) -> "ErrorOut":
        refusal = understand(error)
        return cls(code=refusal.code, message=refusal.message)


class TrialOut(BaseModel):
    success: bool
    provider: str
    model: str = Field(description="As the provider calls it.")
    latency_ms: float
    error: ErrorOut | None

    @classmethod
    def of(cls, probed: Probed) -> "TrialOut":
        return cls(
            success=probed.error is None,
            provider=probed.provider,
            model=probed.model,
            latency_ms=round(probed.latency_ms, 1),
            error=ErrorOut.of(probed.error) if probed.error else None,
        )


class ModelHealthOut(BaseModel):
    model: str
    breaker: str
    requests: int
    errors: int
    fallbacks: int
    active: int
    first_token_ms: dict[str, float]
    latency_ms: dict[str, float]
    last_error: str | None

    @classmethod
    def of(cls, health: ModelHealth) -> "ModelHealthOut":
        return cls(
            model=health.model,
            breaker=health.breaker,
            requests=health.requests,
            errors=health.errors,
            fallbacks=health.fallbacks,
            active=health.active,
            first_token_ms=dict(health.first_token_ms),
            latency_ms=dict(health.latency_ms),
            last_error=health.last_error,
        )


class ConditionOut(BaseModel):
    provider: str
    type: str
    status: str = Field(description="`healthy`, `degraded`, `unhealthy` or `disabled`.")
    latency_ms: float | None = Field(description="Of the test call.")
    error: ErrorOut | None
    models: list[ModelHealthOut] = Field(description="That were called in this process.")

    @classmethod
    def of(cls, condition: Condition) -> "ConditionOut":
        latency = condition.latency_ms
        return cls(
            provider=condition.provider,
            type=condition.type,
            status=condition.status,
            latency_ms=None if latency is None else round(latency, 1),
            error=ErrorOut.of(condition.error) if condition.error else None,
            models=[ModelHealthOut.of(each) for each in condition.models],
        )


class HealthOut(BaseModel):
    object: Literal["list"] = "list"
    data: list[ConditionOut]


class TypeOut(BaseModel):
    type: str
    default_base_url: str | None = Field(description="Null: a base URL has to be given, if any.")
    default_model: str | None
    options: list[str]
    needs_key: bool

    @classmethod
    def of(cls, type: ProviderType) -> "TypeOut":
        return cls(
            type=type.name,
            default_base_url=type.default_base_url,
            default_model=type.default_model,
            options=list(type.options),
            needs_key=type.needs_key,
        )


class TypeList(BaseModel):
    object: Literal["list"] = "list"
    data: list[TypeOut]


def _priced(price: Price) -> PricePut:
    return PricePut(
        input=float(price.input),
        output=float(price.output),
        cached_input=float(price.cached_input),
    )


def given(text: SecretStr | None, variable: str | None) -> GivenKey:
    return GivenKey(text.get_secret_value() if text else None, variable)


def key_of(view: ProviderView) -> KeyOut | None:
    if not view.has_key:
        return None
    key = view.provider.key
    if isinstance(key, EnvironmentKey):
        return KeyOut(source="environment", variable=key.variable)
    return KeyOut(source="settings" if view.operators else "stored")
