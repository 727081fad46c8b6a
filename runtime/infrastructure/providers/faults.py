"""What goes wrong at a provider, in the runtime's words.

Messages never hold the address, the key or anything internal; what the provider says itself is
only passed on where the caller can mend it.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from runtime.domain.errors import (
    DomainError,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamMisconfigured,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from runtime.infrastructure.redaction import MASK, redacted

_LONGEST_MESSAGE = 500
_QUOTA = {
    "insufficient_quota",
    "insufficient_balance",
    "billing_hard_limit_reached",
    "billing_not_active",
}
_STATUS_OF_CODE = {
    **dict.fromkeys(_QUOTA, 429),
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "timeout": 504,
    # Anthropic's types of error.
    "invalid_request_error": 400,
    "not_found_error": 404,
    "request_too_large": 413,
    "billing_error": 402,
    "timeout_error": 504,
    "api_error": 500,
    "overloaded_error": 529,
}
_OVERLOADED = 529


@dataclass(frozen=True, slots=True)
class Faults:
    provider: str
    secrets: tuple[str, ...] = ()
    """Cut out of what the provider says."""

    def of_status(
        self, status: int, model: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> DomainError:
        error = _error_object(body)
        wait = retry_after_s(headers or {})
        who = f"The model provider '{self.provider}'"
        if _is_quota(error) or status == 402:
            return UpstreamQuotaExhausted(f"{who} reports that the account's quota is used up.")
        match status:
            case 429:
                return UpstreamRateLimited(f"{who} asks to slow down.", retry_after_s=wait)
            case 401 | 403:
                return UpstreamAuthFailed(f"{who} does not accept the runtime's credentials.")
            case _ if status == _OVERLOADED:
                return UpstreamFailed(f"{who} is overloaded (HTTP 529).", retry_after_s=wait)
            case 404:
                said = self._said(error, "")
                text = f"{who} has no model '{model[:100]}'.{' ' if said else ''}{said}"
                return UpstreamRefused(text[:_LONGEST_MESSAGE], param="llm_config_id")
            case 408 | 504:
                return UpstreamTimeout(f"{who} ran out of time (HTTP {status}).")
            case _ if 300 <= status < 400:
                return UpstreamMisconfigured(
                    f"{who} answered with a redirect (HTTP {status}), which is never followed; "
                    "an operator has to correct its base URL."
                )
            case _ if 400 <= status < 500:
                said = self._said(error, f"{who} refused the request (HTTP {status}).")
                param = self._hidden(_text(error.get("param")) or "")
                return UpstreamRefused(said, param=param or None)
            case _:
                return UpstreamFailed(f"{who} failed (HTTP {status}).", retry_after_s=wait)

    def in_stream(self, error: object, model: str) -> DomainError:
        """The fault of an `{"error": …}` event."""
        fields = error if isinstance(error, dict) else {}
        for key in ("code", "status", "type"):
            status = _status(fields.get(key))
            if status:
                return self.of_status(status, model, {"error": fields})
        return self.failed("reported an error in the middle of its answer")

    def failed(self, what: str) -> UpstreamFailed:
        return UpstreamFailed(f"The model provider '{self.provider}' {what}.")

    def timed_out(self, what: str) -> UpstreamTimeout:
        return UpstreamTimeout(f"The model provider '{self.provider}' {what}.")

    def _said(self, error: Mapping[str, Any], otherwise: str) -> str:
        return self._hidden(_text(error.get("message")) or otherwise)

    def _hidden(self, said: str) -> str:
        for secret in self.secrets:
            said = said.replace(secret, MASK)
        return redacted(said)[:_LONGEST_MESSAGE]


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """From `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date (RFC 9110 §10.2.3)."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("Retry-After")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        at = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, at - (time.time() if now is None else now))


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _error_object(body: object) -> Mapping[str, Any]:
    """OpenAI nests it under `error`; others send a bare text, `message` or `detail`."""
    fields = body if isinstance(body, dict) else {}
    error = fields.get("error", fields)
    if isinstance(error, dict):
        return error if "message" in error else {**error, "message": error.get("detail")}
    return {"message": error}


def _is_quota(error: Mapping[str, Any]) -> bool:
    return any(_text(error.get(key)) in _QUOTA for key in ("code", "type"))


def _status(code: object) -> int | None:
    text = str(code)
    if len(text) == 3 and text.isascii() and text.isdigit() and 400 <= int(text) < 600:
        return int(text)
    return _STATUS_OF_CODE.get(text)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
