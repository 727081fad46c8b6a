"""The kinds of refusal: a status is its kind's."""

from collections.abc import Mapping
from typing import ClassVar


class DomainError(Exception):
    """A rule said no. `code` is public API; the message is safe to show to the caller."""

    code: ClassVar[str]
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later without anybody changing anything."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s


class Invalid(DomainError): ...


class Unprocessable(DomainError): ...


class Unauthenticated(DomainError):
    code = "invalid_token"


class Forbidden(DomainError):
    code = "forbidden"


class NotFound(DomainError): ...


class Conflict(DomainError): ...


class RateLimited(DomainError):
    code = "rate_limit_exceeded"
    retryable = True


class Unavailable(DomainError):
    retryable = True
