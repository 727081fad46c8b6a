"""Providers and models as they are written in JSON and TOML: by a registration, in the settings."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from runtime.domain.entities.providers import ProviderModel
from runtime.domain.value_objects.providers import (
    MAX_FALLBACKS,
    MAX_MODEL,
    MAX_WEIGHT,
    MODEL_PATTERN,
    VARIABLE_PATTERN,
    Capabilities,
    Fallback,
    Routing,
    Tuning,
)

MOST_TOKENS = 10**9
LONGEST_S = 3_600
StructuredOutput = Literal["json_schema", "json_object", "none"]
_FORMATS: Mapping[StructuredOutput, frozenset[str]] = {
    "json_schema": frozenset({"json_object", "json_schema"}),
    "json_object": frozenset({"json_object"}),
    "none": frozenset(),
}
Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]
Weight = Annotated[int, Field(ge=1, le=MAX_WEIGHT)]
ModelName = Annotated[str, StringConstraints(max_length=MAX_MODEL, pattern=f"^{MODEL_PATTERN}$")]
Variable = Annotated[str, StringConstraints(pattern=f"^{VARIABLE_PATTERN}$")]
ApiKey = Annotated[SecretStr, Field(min_length=1, max_length=4_096)]
BaseUrl = Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
Text = Annotated[str, StringConstraints(max_length=1_000)]
Options = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], bool | int | float | Text],
    Field(max_length=32),
]
TOO_MANY_KEYS = "a key is given by api_key or by api_key_env, not by both"


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class TuningShape(Shape):
    """What the provider has of its own in place of the operator's settings."""

    connect_s: Seconds | None = None
    first_token_s: Seconds | None = None
    idle_s: Seconds | None = Field(default=None, description="Between two pieces of a stream.")
    answer_s: Seconds | None = Field(default=None, description="For an answer in one piece.")
    total_s: Seconds | None = Field(default=None, description="For a streamed answer as a whole.")
    attempts: Annotated[int, Field(ge=1, le=10)] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    breaker_threshold: Annotated[int, Field(ge=1, le=1_000)] | None = None
    breaker_recovery_s: Seconds | None = None

    def tuning(self) -> Tuning:
        return Tuning(**self.model_dump())


class CapabilitiesShape(Shape):
    """What is left out is not known, and nothing is refused on its account."""

    streaming: bool | None = None
    tools: bool | None = None
    json_mode: bool | None = None
    vision: bool | None = None
    embeddings: bool | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    context_window: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None

    def capabilities(self) -> Capabilities:
        return Capabilities(**self.model_dump())


class FallbackShape(Shape):
    model: ModelName = Field(description="`provider/name`, or a provider's id.")
    weight: Weight = 1


class ModelShape(Shape):
    upstream_name: ModelName | None = Field(
        default=None, description="What the provider calls it; unset: the same."
    )
    display_name: Annotated[str, StringConstraints(max_length=200)] = ""
    capabilities: CapabilitiesShape = CapabilitiesShape()
    enabled: bool = True
    fallbacks: Annotated[list[FallbackShape], Field(max_length=MAX_FALLBACKS)] = []
    routing: Literal["first_healthy", "least_latency", "weighted"] = "first_healthy"
    weight: Weight = 1

    def model(self, name: str) -> ProviderModel:
        return ProviderModel(
            name=name,
            upstream_name=self.upstream_name or name,
            display_name=self.display_name,
            capabilities=self.capabilities.capabilities(),
            enabled=self.enabled,
            fallbacks=tuple(Fallback(each.model, each.weight) for each in self.fallbacks),
            routing=Routing(self.routing),
            weight=self.weight,
        )


class ProviderTable(Shape):
    """`[providers.NAME]` in `runtime.toml`."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    base_url: BaseUrl | None = None
    api_key: ApiKey | None = None
    api_key_env: Variable | None = None
    default_model: ModelName | None = None
    default_embedding_model: ModelName | None = None
    structured_output: StructuredOutput | None = None
    options: Options = {}
    tuning: TuningShape = TuningShape()
    enabled: bool = True
    models: dict[ModelName, ModelShape] = {}

    @model_validator(mode="after")
    def _one_key(self) -> "ProviderTable":
        if self.api_key and self.api_key_env:
            raise ValueError(TOO_MANY_KEYS)
        if self.base_url and not re.match(r"https?://[^/]", self.base_url):
            raise ValueError("base_url must begin with http:// or https://")
        return self


def formats_of(kept_to: StructuredOutput | None) -> frozenset[str] | None:
    """The types of `response_format` that models keep to by themselves."""
    return None if kept_to is None else _FORMATS[kept_to]


def kept_to_by(formats: frozenset[str] | None) -> StructuredOutput | None:
    return next((name for name, each in _FORMATS.items() if each == formats), None)
