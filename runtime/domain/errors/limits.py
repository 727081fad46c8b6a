"""What may be used, and what it costs."""

from runtime.domain.errors.kinds import Forbidden, NotFound, RateLimited


class LimitReached(RateLimited):
    """`kind` is requests, tokens or runs; `scope` is key, project or agent."""

    def __init__(
        self, message: str, *, scope: str, kind: str, retry_after_s: float | None = None
    ) -> None:
        details = {"scope": scope, "kind": kind}
        super().__init__(message, details=details, retry_after_s=retry_after_s)
        self.scope = scope
        self.kind = kind


class RequestTooLarge(LimitReached):
    retryable = False


class BudgetExhausted(RateLimited):
    code = "insufficient_quota"
    retryable = False

    def __init__(self, message: str, *, scope: str) -> None:
        super().__init__(message, details={"scope": scope, "kind": "budget"})
        self.scope = scope
        self.kind = "budget"


class ModelUnpriced(Forbidden):
    code = "model_unpriced"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"A budget in USD applies to this call, and the model '{model}' has no price. An admin "
            "sets one with PUT /v1/prices/{model} or `agent-runtime prices set`.",
            param="model",
        )


class LimitNotFound(NotFound):
    code = "limit_not_found"

    def __init__(self, scope: object, id: object) -> None:
        super().__init__(f"There is no limit for the {scope} '{id}'.", param="id")


class PriceNotFound(NotFound):
    code = "price_not_found"

    def __init__(self, model: object) -> None:
        super().__init__(f"The model '{model}' has no price.", param="model")
