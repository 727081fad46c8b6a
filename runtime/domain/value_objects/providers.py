"""What is said of a model provider and of a model: names, capabilities, who steps in for whom."""

import re
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Literal

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.ids import ProviderId

MAX_MODEL = 200
MAX_FALLBACKS = 8
MAX_WEIGHT = 1_000
MODEL_PATTERN = r"[\x21-\x7e]+"
VARIABLE_PATTERN = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
PROVIDER_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_MODEL = re.compile(MODEL_PATTERN)


def provider_id(value: str) -> ProviderId:
    """What stands before the slash in `provider/name`. Raises InvalidValue."""
    if not PROVIDER_ID.fullmatch(value):
        raise InvalidValue(
            "A provider's id is 1-64 letters, digits or inner '.', '_', '-'.", param="provider_id"
        )
    return ProviderId(value)


def model_name(value: str, param: str = "name") -> str:
    """Raises InvalidValue."""
    if len(value) > MAX_MODEL or not _MODEL.fullmatch(value):
        raise InvalidValue(
            f"A model's name is 1-{MAX_MODEL} printable ASCII characters without blanks.",
            param=param,
        )
    return value


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """A provider's key stands in this variable of the runtime's environment."""

    variable: str


class Routing(StrEnum):
    """Which of a model and its fallbacks is called first; the others follow when it fails."""

    FIRST_HEALTHY = "first_healthy"
    """In the order in which they are named."""
    LEAST_LATENCY = "least_latency"
    """The one whose first tokens came soonest of late."""
    WEIGHTED = "weighted"
    """By chance, in proportion to the weights."""


@dataclass(frozen=True, slots=True)
class Fallback:
    model: str
    """`provider/name`, or a provider's id alone for its default model."""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Capabilities:
    """None: not known, so that nothing is refused on its account."""

    streaming: bool | None = None
    tools: bool | None = None
    json_mode: bool | None = None
    vision: bool | None = None
    embeddings: bool | None = None
    max_tokens: int | None = None
    """The longest answer."""
    context_window: int | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a provider has of its own in place of the operator's settings; None: theirs. Seconds."""

    connect_s: float | None = None
    first_token_s: float | None = None
    idle_s: float | None = None
    """Between two pieces of a streamed answer."""
    answer_s: float | None = None
    """For an answer that is not streamed."""
    total_s: float | None = None
    """For a streamed answer as a whole."""
    attempts: int | None = None
    """Tries of one call, the first included; only before its first token."""
    max_concurrency: int | None = None
    """Calls at once, in this process."""
    breaker_threshold: int | None = None
    breaker_recovery_s: float | None = None

    def over(self, defaults: "Tuning") -> "Tuning":
        """These, with the defaults where they say nothing."""
        given: dict[str, Any] = {
            each.name: value
            for each in fields(self)
            if (value := getattr(self, each.name)) is not None
        }
        return replace(defaults, **given)


NOTHING_KNOWN = Capabilities()
AS_CONFIGURED = Tuning()
BreakerState = Literal["closed", "open", "half_open"]


def missing_key(variable: str, param: str = "api_key_env") -> InvalidValue:
    return InvalidValue(f"Missing API key: Environment variable {variable} not set", param=param)


def names(reference: str, id: str, model: str | None, *, by_id: bool = False) -> bool:
    """Whether a reference leads to the provider, or to just this model of it, `by_id` also where
    it is the provider's default."""
    if model is None:
        return reference.partition("/")[0] == id
    return reference == f"{id}/{model}" or (by_id and reference == id)
