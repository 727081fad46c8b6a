"""When a call is made again, and what it raises when it is not."""

import json
import random
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from runtime.client.errors import (
    ConnectionFailedError,
    RequestTimeoutError,
    UnexpectedAnswerError,
    refusal,
)
from runtime.client.options import Options
from runtime.client.shapes import Answered, Call, StreamCall

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
"""Who is asked to wait longer had better be told."""
_AGAIN = (429, 502, 503, 504)
_STILL_RUNS = "idempotency_key_in_use"
"""What the repeat of a request gets whose first sending is still being carried out."""


class Attempts:
    """One call, from its first sending to its last.

    A POST has an `Idempotency-Key`, the same each time: what was carried out is not carried out
    again. What is neither that nor a GET is only sent again where it can't have arrived.
    """

    def __init__(self, call: Call[Any] | StreamCall, options: Options) -> None:
        self._call = call
        self._options = options
        self._repeats = 0
        self.headers = {"Accept": "text/event-stream"} if isinstance(call, StreamCall) else {}
        if call.method == "POST" and options.max_retries:
            self.headers["Idempotency-Key"] = str(uuid.uuid4())

    def broke(self, error: "httpx.HTTPError") -> float:
        """The seconds to wait before it is sent again. Raises ConnectionFailedError."""
        import httpx

        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        lost = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
        if (unsent or (lost and self._repeatable)) and self._may_repeat:
            return self._backoff()
        raise connection_failed(error, self._options) from error

    def refused(self, status: int, headers: Mapping[str, str], content: bytes) -> float:
        """The seconds to wait before it is sent again. Raises RuntimeClientError."""
        error = refusal(
            status,
            _parsed(content),
            request_id=headers.get("x-request-id"),
            retry_after_s=_retry_after(headers),
        )
        wait_s = error.retry_after_s or 0.0
        again = status in _AGAIN or (status == 409 and error.code == _STILL_RUNS)
        forbidden = headers.get("x-should-retry") == "false" or wait_s > LONGEST_RETRY_AFTER_S
        if not again or forbidden or not self._may_repeat:
            raise error
        return max(wait_s, self._backoff())

    @property
    def _repeatable(self) -> bool:
        return self._call.method == "GET" or "Idempotency-Key" in self.headers

    @property
    def _may_repeat(self) -> bool:
        return self._repeats < self._options.max_retries

    def _backoff(self) -> float:
        self._repeats += 1
        return backoff_s(self._repeats - 1)


def backoff_s(repeats: int) -> float:
    """Before the next try, after so many."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * float(2**repeats)) * random.uniform(0.5, 1.0)


def answered(
    call: Call[T], status: int, headers: Mapping[str, str], content: bytes, options: Options
) -> T:
    """Raises UnexpectedAnswerError."""
    body = _parsed(content)
    try:
        if isinstance(body, dict):
            return call.parse(Answered(body, headers))
    except (KeyError, TypeError, AttributeError, IndexError):
        pass
    raise UnexpectedAnswerError(
        f"What answers at {options.base_url} is not an agent runtime that this client knows.",
        status=status,
        body=body,
    )


def connection_failed(error: "httpx.HTTPError", options: Options) -> ConnectionFailedError:
    import httpx

    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return RequestTimeoutError(f"{options.base_url} said nothing in time.")
    return ConnectionFailedError(
        f"No runtime answers at {options.base_url} ({type(error).__name__})."
    )


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, per_s in (("retry-after-ms", 1_000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / per_s)
        except (KeyError, ValueError):
            continue
    return None
