"""What a call can raise: `RuntimeClientError`, and under it one class for each kind of refusal."""

from collections.abc import Mapping
from typing import Any


class RuntimeClientError(Exception):
    """A call that did not succeed. `code` is the runtime's own word for why, and public API."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        body: Any = None,  # noqa: ANN401 - whatever the server answered
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        """None where no answer came."""
        self.code = code
        self.param = param
        """The field at fault."""
        self.request_id = request_id
        """Under which the server's log has the cause."""
        self.retry_after_s = retry_after_s
        self.body = body
        """The answer as it came, parsed where it is JSON."""

    def __str__(self) -> str:
        known = [str(each) for each in (self.status, self.code) if each is not None]
        about = f" ({' '.join(known)})" if known else ""
        traced = f" [{self.request_id}]" if self.request_id else ""
        return f"{self.message}{about}{traced}"


class BadRequestError(RuntimeClientError):
    """400"""


class AuthenticationError(RuntimeClientError):
    """401"""


class PermissionDeniedError(RuntimeClientError):
    """403"""


class NotFoundError(RuntimeClientError):
    """404: it does not exist, for this caller."""


class RunTimeoutError(RuntimeClientError):
    """408: the run took longer than the runtime allows."""


class ConflictError(RuntimeClientError):
    """409"""


class StaleVersionError(RuntimeClientError):
    """412"""


class PayloadTooLargeError(RuntimeClientError):
    """413"""


class UnprocessableError(RuntimeClientError):
    """422"""


class RateLimitError(RuntimeClientError):
    """429: too much for now, or a budget is used up; `retry_after_s` where it is known."""


class ServerError(RuntimeClientError):
    """500 and whatever else is the server's fault."""


class UpstreamError(ServerError):
    """502: the model's provider failed."""


class UnavailableError(ServerError):
    """503"""


class UpstreamTimeoutError(ServerError):
    """504: the model's provider was too slow."""


class ConnectionFailedError(RuntimeClientError):
    """No answer: the server can't be reached, or the connection broke before there was one."""


class RequestTimeoutError(ConnectionFailedError):
    """The server said nothing for as long as was allowed."""


class StreamBrokenError(ConnectionFailedError):
    """A stream ended before its proper end: what came of the answer is not all of it."""


class UnexpectedAnswerError(RuntimeClientError):
    """What answers at that address is no agent runtime, or speaks another version."""


class ClientClosedError(RuntimeClientError):
    """The client was closed before."""

    def __init__(self) -> None:
        super().__init__("This client is closed; make a new one.")


_KINDS: Mapping[int, type[RuntimeClientError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RunTimeoutError,
    409: ConflictError,
    412: StaleVersionError,
    413: PayloadTooLargeError,
    422: UnprocessableError,
    429: RateLimitError,
    502: UpstreamError,
    503: UnavailableError,
    504: UpstreamTimeoutError,
}


_STATUS_OF_CODE: Mapping[str, int] = {
    "run_not_found": 404,
    "upstream_error": 502,
    "upstream_auth_failed": 502,
    "invalid_structured_output": 502,
    "draining": 503,
    "saturated": 503,
    "database_unavailable": 503,
    "upstream_timeout": 504,
}
_STATUS_OF_TYPE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "timeout_error": 408,
    "rate_limit_error": 429,
}
"""For what ends one of OpenAI's streams, whose errors have no status of their own."""


def refusal(
    status: int,
    body: Any,  # noqa: ANN401 - whatever the server answered
    *,
    request_id: str | None = None,
    retry_after_s: float | None = None,
) -> RuntimeClientError:
    """From any of the runtime's three shapes of errors, or from none of them."""
    message, code, param = _told(body)
    named = body.get("request_id") if isinstance(body, dict) else None
    return _kind(status)(
        message or f"The server answered {status}.",
        status=status,
        code=code,
        param=param,
        request_id=request_id or _text(named),
        retry_after_s=retry_after_s,
        body=body,
    )


def streamed(data: Mapping[str, Any], request_id: str | None = None) -> RuntimeClientError:
    """From the event that ends a stream which failed: OpenAI's error object, or ours."""
    message, code, param = _told(data)
    status = _status(data, code)
    return _kind(status)(
        message or "The run failed.",
        status=status,
        code=code,
        param=param,
        request_id=request_id,
        body=data,
    )


def _status(data: Mapping[str, Any], code: str | None) -> int:
    told, error = data.get("status"), data.get("error")
    if isinstance(told, int):
        return told
    type = error.get("type") if isinstance(error, dict) else None
    return _STATUS_OF_CODE.get(code or "") or _STATUS_OF_TYPE.get(str(type), 500)


def _kind(status: int) -> type[RuntimeClientError]:
    fallback = ServerError if status >= 500 else RuntimeClientError
    return _KINDS.get(status, fallback)


def _told(body: object) -> tuple[str | None, str | None, str | None]:
    """The message, the code, and the field."""
    if not isinstance(body, dict):
        return None, None, None
    error, details = body.get("error"), body.get("details")
    if isinstance(error, dict):
        return _text(error.get("message")), _text(error.get("code")), _text(error.get("param"))
    known = details if isinstance(details, dict) else {}
    code = body.get("code") or known.get("code")
    param = body.get("param") or known.get("param")
    return _text(body.get("message")) or _text(error), _text(code), _text(param)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
