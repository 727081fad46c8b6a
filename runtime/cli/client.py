"""The runtime over HTTP, with nothing but the standard library: it imports in no time."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from runtime.cli.failures import Failure, Passing

Json = dict[str, Any]

SILENCE_S = 60
"""A stream says something at least every 15 s, be it only a comment."""
NEEDS_TOKEN = "The command line takes it from RUNTIME_TOKEN or --token."
_ENDS = ("run.completed", "run.failed", "run.cancelled")
_ELSEWHERE = ("draining", "saturated", "database_unavailable")
_AGAIN = (429, 502, 503, 504)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Client:
    """Raises Failure with the API's own message for whatever it refuses."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        host = _host(self.url)
        if not host:
            raise Failure(f"'{url}' is no address of a runtime: http://127.0.0.1:8000 is one.", 2)
        if token and not (token.isascii() and token.isprintable()):
            raise Failure("The token holds characters that no HTTP header can carry.", 2)
        self._headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener = _opener(host)

    def call(
        self,
        method: str,
        *path: str,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
        if_match: str | None = None,
    ) -> Json:
        """`path` in its parts: a slug may hold any letter."""
        question = f"?{urlencode(query)}" if query else ""
        headers = {"If-Match": if_match} if if_match else {}
        with self._sent(method, "/".join(map(_quoted, path)) + question, body, headers) as response:
            return self._read(response)

    def stream(self, path: str, body: Json) -> Iterator[Json]:
        """The objects of an OpenAI stream. One that breaks off raises Failure."""
        with self._sent("POST", path, body, {"Accept": "text/event-stream"}) as response:
            for line in response:
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                event = self._parsed(data)
                if "error" in event:
                    raise Failure(_message(event))
                yield event
        raise Failure("The answer broke off: the connection was lost.")

    def events(self, run: str, after: int) -> Iterator[Json | None]:
        """What is in a run's log behind that event, and None for each sign of life. What breaks off
        raises Passing."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        heard = False
        with self._sent("GET", f"runs/{_quoted(run)}/events", None, headers) as response:
            for line in response:
                heard = True
                if line.startswith(b":"):
                    yield None
                elif line.startswith(b"data:"):
                    yield (event := self._event(line[5:]))
                    if event["type"] in _ENDS:
                        return
        # Where nothing at all is said, the run had ended before that event.
        if heard:
            raise Passing("The events broke off: the connection was lost.")

    def _event(self, data: bytes) -> Json:
        event = self._parsed(data.strip())
        if "error" in event:
            kind = Passing if event["error"].get("code") in _ELSEWHERE else Failure
            raise kind(_message(event))
        return event

    @contextmanager
    def _sent(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str]
    ) -> Iterator[HTTPResponse]:
        data = None if body is None else json.dumps(body, default=str).encode()
        url = f"{self.url}/v1/{path}"
        request = Request(url, data, {**self._headers, **headers}, method=method)
        try:
            with self._opener.open(request, timeout=SILENCE_S) as response:
                yield response
        except HTTPError as error:
            with error:
                raise self._refused(error) from error
        except TimeoutError as error:
            raise Passing(f"{self.url} said nothing for {SILENCE_S} s.") from error
        except URLError as error:
            raise self._unreachable(error.reason) from error
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error

    def _refused(self, error: HTTPError) -> Failure:
        try:
            message = _message(json.loads(error.read()))
        except (ValueError, AttributeError):
            message = f"{self.url} answered {error.code} {error.reason}."
        if error.code in _AGAIN:
            return Passing(message)
        return Failure(f"{message} {NEEDS_TOKEN}" if error.code == 401 else message)

    def _read(self, response: IO[bytes]) -> Json:
        return self._parsed(response.read())

    def _parsed(self, text: bytes) -> Json:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Failure(f"What answers at {self.url} is not an agent runtime.")
        return found

    def _unreachable(self, why: object) -> Passing:
        reason = getattr(why, "strerror", None) or str(why) or type(why).__name__
        return Passing(
            f"No runtime answers at {self.url} ({reason}); start it with `agent-runtime serve`."
        )


class _NoRedirects(HTTPRedirectHandler):
    """The token stays with the host it was given for."""

    def redirect_request(self, *_: object) -> None:
        return None


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:
        return None


def _opener(host: str) -> OpenerDirector:
    """By the proxy that the environment names, except to this machine."""
    return build_opener(_NoRedirects, *([ProxyHandler({})] if host in _LOOPBACK else []))


def _quoted(part: str) -> str:
    return quote(part, safe="@")


def _message(body: Json) -> str:
    """From OpenAI's error object or the platform's; of several problems every one."""
    error = body.get("error")
    if isinstance(error, dict):
        return str(error.get("message"))
    problems = (body.get("details") or {}).get("errors") or []
    if len(problems) < 2:
        return str(body.get("message") or error or body)
    return "\n".join(["Several things are wrong:", *(f"  {_problem(each)}" for each in problems)])


def _problem(problem: Json) -> str:
    takes = f" It takes {problem['expected']}." if problem.get("expected") else ""
    name = problem.get("path") or problem.get("param") or ""
    return f"{name}: {str(problem.get('message', '')).rstrip('.')}.{takes}"
