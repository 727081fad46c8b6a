"""What is said over a WebSocket, without any I/O: both sockets only carry it.

Frames are `{"message_type": …, "data": {…}}`; each request has an id, and each event of its
answer a number, by which it is taken up again on another connection.
"""

import json
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from runtime.client.attempts import FIRST_WAIT_S, LONGEST_WAIT_S
from runtime.client.errors import (
    AuthenticationError,
    RuntimeClientError,
    StreamBrokenError,
    UnexpectedAnswerError,
    streamed,
)
from runtime.client.events import Event, Start, event_of
from runtime.client.shapes import Json

MOST_RECONNECTS = 5
"""One after the other, without a word in between."""
REFUSED = 1008
"""The close code of a server that does not want this caller."""
_UNKNOWN = "stream_not_found"


def frame(message_type: str, data: Mapping[str, Any]) -> str:
    return json.dumps({"message_type": message_type, "data": data}, ensure_ascii=False)


def read(message: str | bytes) -> tuple[str, Json]:
    try:
        said = json.loads(message)
        kind, data = said["message_type"], said.get("data") or {}
    except (ValueError, TypeError, KeyError):
        raise UnexpectedAnswerError("The WebSocket said something that is no frame.") from None
    return str(kind), data if isinstance(data, dict) else {}


class Request:
    """One request and what is known of its answer."""

    def __init__(self, body: Json, *, resumable: bool) -> None:
        self.id = str(uuid.uuid4())
        self.run_id: str | None = None
        self.status: str | None = None
        """`completed`, `cancelled` or `failed`; None while it goes on."""
        self.last_event = 0
        self.resumable = resumable
        self.inbox: deque[Event | RuntimeClientError] = deque()
        self._body = {**body, "request_id": self.id, "resumable": resumable}
        self.asked = False
        self._accepted = False

    @property
    def ended(self) -> bool:
        return self.status is not None

    def asking(self) -> str:
        self.asked = True
        return frame("chat_request", self._body)

    def cancelling(self) -> str:
        return frame("cancel", {"request_id": self.id})

    def again(self) -> str:
        """On a new connection. It may never have arrived on the one before."""
        return frame("resume", {"request_id": self.id, "last_event": self.last_event})

    def hear(self, kind: str, data: Json) -> str | None:
        """A frame about it; what is to be sent in return, if anything."""
        match kind:
            case "request_accepted":
                self._accepted = True
            case "stream_event":
                self._hear_event(data)
            case "stream_end":
                self.status = str(data.get("status") or "completed")
            case "error":
                if data.get("code") == _UNKNOWN and not self._accepted:
                    return self.asking()
                self.fail(streamed(data))
        return None

    def fail(self, error: RuntimeClientError) -> None:
        if not self.ended:
            self.status = "failed"
            self.inbox.append(error)

    def lose(self) -> None:
        self.fail(StreamBrokenError("The answer broke off: the connection was lost."))

    def _hear_event(self, data: Json) -> None:
        self._accepted = True
        number = data.get("event_number")
        if isinstance(number, int):
            if number <= self.last_event:
                return
            self.last_event = number
        source, told = data.get("source"), data.get("event_data")
        try:
            event = event_of(
                str(data.get("event_type", "")),
                told if isinstance(told, dict) else {},
                source=source if isinstance(source, str) else None,
                number=number if isinstance(number, int) else None,
            )
        except RuntimeClientError as error:
            self.fail(error)
            return
        if isinstance(event, Start) and self.run_id is None:
            self.run_id = event.run_id
        self.inbox.append(event)


class Talk:
    """What goes on over one socket, whichever connection it has at present."""

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._requests: dict[str, Request] = {}
        self._acks: deque[Json | RuntimeClientError] = deque()
        self._unacknowledged = 0
        self.told: Json | None = None
        """What the server knows the connection by."""
        self.reconnects = 0
        self._refusal: RuntimeClientError | None = None

    def ask(self, body: Json, *, resumable: bool) -> Request:
        request = Request(body, resumable=resumable)
        self._requests[request.id] = request
        return request

    def leave(self, request: Request) -> None:
        self._requests.pop(request.id, None)

    def rate(self, rating: Literal["up", "down"], run_id: str, comment: str | None) -> str:
        self._unacknowledged += 1
        told = {"comment": comment} if comment is not None else {}
        return frame("feedback", {"rating": rating, "run_id": run_id, **told})

    def ack(self) -> Json | None:
        """Of the feedback that was given. Raises what was said against it."""
        if not self._acks:
            return None
        self._unacknowledged -= 1
        found = self._acks.popleft()
        if isinstance(found, RuntimeClientError):
            raise found
        return found

    def hear(self, message: str | bytes) -> str | None:
        """What is to be sent in return, if anything. Raises RuntimeClientError for what is about
        the connection."""
        kind, data = read(message)
        if kind == "connected":
            self.told = data
            return None
        if kind == "auth_required":
            if self._token is None:
                raise AuthenticationError("The runtime wants an api_key.", status=401)
            return frame("auth", {"token": self._token})
        self.reconnects = 0
        if kind == "feedback_ack":
            self._acks.append(data)
            return None
        return self._about(kind, data)

    def _about(self, kind: str, data: Json) -> str | None:
        request = self._requests.get(str(data.get("request_id")))
        if request is not None and not request.ended:
            return request.hear(kind, data)
        if kind == "error":
            error = streamed(data)
            if self.told is None or error.status in (401, 403):
                raise error
            self._refusal = error
            # One with a request's id is told of a request that is over, such as a late cancel's.
            if self._unacknowledged > len(self._acks) and "request_id" not in data:
                self._acks.append(error)
        return None

    def lost(self, code: int | None) -> Sequence[str]:
        """The connection is gone: what to say on the next. Raises RuntimeClientError where none
        is wanted."""
        self.told = None
        if code == REFUSED:
            error = self._refusal or AuthenticationError("The runtime closed the connection.")
            for request in self._requests.values():
                request.fail(error)
            raise error
        for request in self._requests.values():
            if request.asked and not request.resumable:
                request.lose()
        going_on = [each for each in self._requests.values() if each.asked and not each.ended]
        return [request.again() for request in going_on]

    def wait_s(self) -> float | None:
        """Before the next try to connect; None when there were enough."""
        if self.reconnects >= MOST_RECONNECTS:
            return None
        self.reconnects += 1
        return float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (self.reconnects - 1)))
