"""What goes wrong at a model's provider."""

from collections.abc import Sequence

from runtime.domain.errors.kinds import DomainError, Invalid, RateLimited


class UpstreamFailed(DomainError):
    code = "upstream_error"
    retryable = True


class UpstreamAuthFailed(UpstreamFailed):
    code = "upstream_auth_failed"
    retryable = False


class UpstreamMisconfigured(UpstreamFailed):
    """What answers at the provider's address is not the provider; an operator has to look."""

    retryable = False


class NoSourceAnswered(UpstreamFailed):
    """Several were asked, and each failed with another error."""

    code = "no_source_answered"

    def __init__(self, errors: Sequence[tuple[str, DomainError]]) -> None:
        failed = [
            {"source": name, "code": error.code, "message": str(error)} for name, error in errors
        ]
        names = ", ".join(f"{name} ({error.code})" for name, error in errors)
        super().__init__(f"None of them answered: {names}.", details={"sources": failed})


class InvalidStructuredOutput(UpstreamFailed):
    code = "invalid_structured_output"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The answer does not fit the requested JSON schema: {problem}")


class UpstreamRefused(Invalid):
    """The provider found the request itself wrong: the caller's parameters, passed through."""

    code = "upstream_invalid_request"


class UpstreamRateLimited(RateLimited):
    code = "upstream_rate_limited"


class UpstreamQuotaExhausted(UpstreamRateLimited):
    code = "insufficient_quota"
    retryable = False


class UpstreamTimeout(DomainError):
    code = "upstream_timeout"
    retryable = True
