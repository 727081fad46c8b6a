"""Providers and models as they are registered."""

from collections.abc import Sequence

from runtime.domain.errors.agents import ModelNotFound
from runtime.domain.errors.kinds import Conflict, NotFound, Unavailable


class ProviderNotFound(NotFound):
    code = "provider_not_found"

    def __init__(self, provider: object) -> None:
        super().__init__(
            f"There is no provider '{provider}'. GET /v1/providers lists the ones there are.",
            param="provider_id",
        )


class ProviderModelNotFound(NotFound):
    code = "provider_model_not_found"

    def __init__(self, model: object) -> None:
        super().__init__(f"The model '{model}' is not registered.", param="model")


class EmbeddingModelNotFound(ModelNotFound):
    def __init__(self, model: object) -> None:
        NotFound.__init__(
            self,
            f"There is no embedding model '{model}'. Write 'provider/name', a provider's name, or "
            "the name of a model of the default provider.",
            param="model",
        )


class ProviderExists(Conflict):
    code = "provider_exists"

    def __init__(self, provider: object) -> None:
        super().__init__(
            f"There is a provider '{provider}' already. Change it with "
            "PATCH /v1/providers/{id}, or choose another id.",
            param="provider_id",
        )


class ProviderModelExists(Conflict):
    code = "provider_model_exists"

    def __init__(self, model: object) -> None:
        super().__init__(
            f"There is a model '{model}' already. Replace it with "
            "PUT /v1/providers/{id}/models/{name}, or choose another name.",
            param="name",
        )


class ProviderReadOnly(Conflict):
    code = "provider_read_only"

    def __init__(self, provider: object) -> None:
        super().__init__(
            f"The provider '{provider}' is the operator's: the runtime's settings have it.",
            param="provider_id",
        )


class ProviderInUse(Conflict):
    code = "provider_in_use"

    def __init__(self, what: object, users: Sequence[str]) -> None:
        super().__init__(
            f"'{what}' is still in use by {', '.join(users)}. Move them to another model first, "
            "or disable it.",
            param="provider_id",
            details={"used_by": list(users)},
        )


class CircuitOpen(Unavailable):
    code = "upstream_unavailable"

    def __init__(self, model: object, retry_after_s: float) -> None:
        super().__init__(
            f"The model '{model}' failed several times in a row and is left alone for a while; "
            "try again.",
            retry_after_s=retry_after_s,
        )


class ModelDisabled(Unavailable):
    code = "model_disabled"
    retryable = False

    def __init__(self, model: object) -> None:
        super().__init__(
            f"The model '{model}' is disabled. An admin can enable it, or give the agent another "
            "model."
        )


class ProviderSaturated(Unavailable):
    code = "provider_saturated"

    def __init__(self, provider: object, limit: int) -> None:
        super().__init__(
            f"All {limit} places for calls of the provider '{provider}' are taken; try again.",
            retry_after_s=1,
        )
