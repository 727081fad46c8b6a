"""The one place where an exception becomes an answer, in the shape of its door."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from runtime.domain import errors
from runtime.domain.errors import DomainError
from runtime.infrastructure.redaction import redacted, redacted_json
from runtime.infrastructure.web.json_response import JsonResponse

PLATFORM_PATHS = (
    "/v1/agents",
    "/v1/templates",
    "/v1/schema",
    "/v1/health",
    "/v1/runs",
    "/v1/approvals",
    "/v1/keys",
    "/v1/memories",
    "/v1/limits",
    "/v1/prices",
    "/v1/usage",
    "/v1/providers",
    "/v1/webhooks",
    "/v1/schedules",
)
"""Where errors have the platform's shape."""
GATEWAY = "/api/"
"""Where they have the gateway's; everywhere else it is OpenAI's."""

STATUS: dict[type[DomainError], int] = {
    errors.Invalid: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.RunTimeout: 408,
    errors.DeadlineExceeded: 408,
    errors.Conflict: 409,
    errors.StaleVersion: 412,
    errors.Unprocessable: 422,
    errors.RateLimited: 429,
    errors.ExecutionFailed: 500,
    errors.UpstreamFailed: 502,
    errors.Unavailable: 503,
    errors.UpstreamTimeout: 504,
}
OPENAI_TYPE = {
    401: "authentication_error",
    403: "permission_error",
    408: "timeout_error",
    429: "rate_limit_error",
}
OPENAI_CODE = {"invalid_token": "invalid_api_key"}
"""Where OpenAI's own clients know another word."""
PLATFORM_CODE = {
    400: "VALIDATION_ERROR",
    401: "INVALID_TOKEN",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "TIMEOUT_ERROR",
    409: "CONFLICT",
    412: "STALE_VERSION",
    413: "PAYLOAD_TOO_LARGE",
    414: "URI_TOO_LONG",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMIT_EXCEEDED",
    431: "HEADERS_TOO_LARGE",
    500: "EXECUTION_ERROR",
    502: "EXECUTION_ERROR",
    503: "UNAVAILABLE",
    504: "TIMEOUT_ERROR",
}
PLATFORM_CODE_OF = {
    "agent_not_found": "AGENT_NOT_FOUND",
    "template_not_found": "TEMPLATE_NOT_FOUND",
    "version_mismatch": "VERSION_MISMATCH",
    "internal_error": "INTERNAL_ERROR",
}
HTTP_CODE = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "payload_too_large",
    414: "uri_too_long",
    431: "headers_too_large",
    505: "http_version_not_supported",
}

_NAMES_A_TYPE = re.compile(r"function-|(list|dict|literal)\[|str$|[A-Z]\w+(In|Choice)$")
_NAMES_A_VARIANT = re.compile(
    r"(system|developer|user|assistant|tool|text|refusal|image_url|input_audio|file)$"
)
"""Parts of pydantic's location that are no part of the body: what it took a value for, and of a
list's items which of several kinds."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An exception, understood."""

    status: int
    message: str
    code: str
    param: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def openai(self) -> dict[str, Any]:
        """`components.schemas.Error` of OpenAI's description: all four keys, always."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        code = OPENAI_CODE.get(self.code, self.code)
        return {
            "message": self.message,
            "type": OPENAI_TYPE.get(self.status, kind),
            "param": self.param,
            "code": code,
        }

    def platform(self) -> dict[str, Any]:
        code = PLATFORM_CODE_OF.get(self.code) or PLATFORM_CODE.get(self.status, "ERROR")
        details = {"code": self.code, **self.details}
        if self.param:
            details["param"] = self.param
        return {"error": code, "message": self.message, "details": details}

    def gateway(self, request_id: str) -> dict[str, Any]:
        details = {"param": self.param, **self.details} if self.param else self.details
        return {
            "request_id": request_id,
            "success": False,
            "error": self.message,
            "data": None,
            "code": self.code,
            "details": details,
        }

    def body(self, path: str, request_id: str) -> dict[str, Any]:
        if path.startswith(PLATFORM_PATHS):
            return self.platform()
        return self.gateway(request_id) if path.startswith(GATEWAY) else {"error": self.openai()}


def is_openai(path: str) -> bool:
    """Whether what answers there is, or would be, a route of OpenAI's."""
    return path.startswith("/v1/") and not path.startswith(PLATFORM_PATHS)


def understand(exc: BaseException) -> Refusal:
    refusal = _understood(exc)
    return replace(
        refusal,
        message=redacted(refusal.message),
        param=refusal.param and redacted(refusal.param),
        details=redacted_json(refusal.details),
    )


def _understood(exc: BaseException) -> Refusal:
    match exc:
        case DomainError():
            return _domain(exc)
        case RequestValidationError():
            return _validation(exc)
        case HTTPException():
            return _http(exc)
        case _:
            return Refusal(500, "Internal error; the log has the cause.", "internal_error")


def _domain(exc: DomainError) -> Refusal:
    status = next(STATUS[kind] for kind in type(exc).__mro__ if kind in STATUS)
    headers = {}
    if exc.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(exc.retry_after_s)))
        if isinstance(exc, errors.LimitReached):
            headers["retry-after-ms"] = str(math.ceil(exc.retry_after_s * 1_000))
    # The OpenAI SDKs repeat 408, 409, 429 and 5xx twice; others 422. Say where that can't help.
    if not exc.retryable and (status in (408, 409, 422, 429) or status >= 500):
        headers["x-should-retry"] = "false"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Refusal(status, str(exc), exc.code, exc.param, exc.details, headers)


def _validation(exc: RequestValidationError) -> Refusal:
    """The first problem as the message, all of them in details, the input in neither."""
    found = exc.errors()
    problems = [_problem(error) for error in found]
    first = _problem(_most_telling(found))
    message = f"{first['param']}: {first['message']}" if first["param"] else first["message"]
    details = {"errors": problems}
    return Refusal(400, message, "invalid_request", first["param"] or None, details)


def _most_telling(found: Sequence[Any]) -> Any:  # noqa: ANN401 - pydantic's error dicts
    """Of the first field's problems: where it may be one of several things, each says no, and the
    one that came furthest is what the caller meant."""
    at = found[0]["loc"][:3]
    if not isinstance(at[-1], int):
        at = at[:2]
    same = [error for error in found if error["loc"][: len(at)] == at]
    return max(same, key=lambda error: (len(error["loc"]), not error["type"].endswith("_type")))


def _problem(error: Any) -> dict[str, str]:  # noqa: ANN401 - pydantic's error dict
    if error["type"] == "json_invalid":
        reason = error.get("ctx", {}).get("error", "")
        return {"param": "", "message": f"The body is not valid JSON: {reason}."}
    if error["loc"] == ("body",):
        message = "The body must be a JSON object, sent with 'Content-Type: application/json'."
        return {"param": "", "message": message}
    where = list(_path(error["loc"][1:]))
    return {"param": ".".join(where), "message": error["msg"].removeprefix("Value error, ")}


def _path(location: Sequence[str | int]) -> Iterator[str]:
    for before, part in zip((None, *location), location, strict=False):
        of_item = isinstance(before, int) and _NAMES_A_VARIANT.match(str(part))
        if not (of_item or _NAMES_A_TYPE.match(str(part))):
            yield str(part)


def _http(exc: HTTPException) -> Refusal:
    message = exc.detail
    if exc.status_code == 404 and message == "Not Found":
        message = "There is no such route; /docs lists the ones there are."
    code = HTTP_CODE.get(exc.status_code, "invalid_request")
    return Refusal(exc.status_code, message, code, headers=dict(exc.headers or {}))


def response(exc: BaseException, path: str, request_id: str | None = None) -> Response:
    """`request_id`: None is the request that is being answered."""
    refusal = understand(exc)
    id = request_id or structlog.contextvars.get_contextvars().get("request_id", "")
    return JsonResponse(refusal.body(path, id), refusal.status, refusal.headers)


async def _respond(request: Request, exc: Exception) -> Response:
    if isinstance(exc, HTTPException) and exc.status_code == 405:
        exc = HTTPException(405, exc.detail, {"Allow": ", ".join(_allowed(request))})
    return response(exc, request.scope["path"])


def _allowed(request: Request) -> list[str]:
    """Every method that the path has; Starlette names only those of the first route it meets.

    Where a path fits several templates, it is the one with the fewest blanks that counts.
    """
    routes: Sequence[Route] = request.app.state.routes
    fitting = [route for route in routes if route.path_regex.match(request.scope["path"])]
    fewest = min((len(route.param_convertors) for route in fitting), default=0)
    found = {
        method
        for route in fitting
        if len(route.param_convertors) == fewest
        for method in route.methods or ()
    }
    return sorted(found | {"HEAD"} if "GET" in found else found)


async def _nobody_listens(_: Request, __: Exception) -> Response:
    return Response(status_code=499)


def install(app: FastAPI) -> None:
    app.add_exception_handler(ClientDisconnect, _nobody_listens)
    for kind in (DomainError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _respond)
