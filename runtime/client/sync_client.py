from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, overload

from runtime.client import calls, run_calls
from runtime.client.attempts import Attempts, answered, connection_failed
from runtime.client.calls import Messages
from runtime.client.errors import (
    ClientClosedError,
    RequestTimeoutError,
    RuntimeClientError,
    StreamBrokenError,
)
from runtime.client.events import Event, TextDelta
from runtime.client.options import CONNECT_S, SILENCE_S, Options
from runtime.client.run_events import Following, Text
from runtime.client.shapes import Call, Completion, Json, StreamCall
from runtime.client.wrapping import like

if TYPE_CHECKING:
    import httpx

    from runtime.client.sync_socket import Socket

P = ParamSpec("P")
T = TypeVar("T")


def _calling(
    describe: Callable[P, Call[T]],
) -> Callable[Concatenate[AgentRuntimeClient, P], T]:
    def method(self: AgentRuntimeClient, /, *args: P.args, **named: P.kwargs) -> T:
        return self._call(describe(*args, **named))

    return like(describe, method)


def _streaming(
    describe: Callable[P, StreamCall],
) -> Callable[Concatenate[AgentRuntimeClient, P], Stream]:
    def method(self: AgentRuntimeClient, /, *args: P.args, **named: P.kwargs) -> Stream:
        return Stream(self._stream(describe(*args, **named)))

    return like(describe, method, "Stream")


class AgentRuntimeClient:
    """A runtime, over HTTP. Close it, or use it in a `with`; safe to share between threads.

    `base_url` and `api_key` come from AGENT_RUNTIME_URL and AGENT_RUNTIME_API_KEY when they are
    not given. Everything that is refused or fails raises a RuntimeClientError.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 600.0,
        max_retries: int = 2,
    ) -> None:
        """Raises ValueError."""
        import httpx

        self._options = options = Options.of(base_url, api_key, timeout_s, max_retries)
        self._http = httpx.Client(
            base_url=options.base_url,
            headers=options.headers,
            timeout=httpx.Timeout(options.timeout_s, connect=CONNECT_S),
            trust_env=options.through_proxies,
        )

    create_agent = _calling(calls.create_agent)
    get_agent = _calling(calls.get_agent)
    list_agents = _calling(calls.list_agents)
    send_message = _calling(calls.send_message)
    stream_message = _streaming(calls.stream_message)
    list_tools = _calling(calls.list_tools)

    register_model = _calling(calls.register_model)
    list_models = _calling(calls.list_models)
    register_provider = _calling(calls.register_provider)
    list_providers = _calling(calls.list_providers)
    test_provider = _calling(calls.test_provider)
    remove_provider = _calling(calls.remove_provider)

    stream_chat = _streaming(calls.stream_chat)

    create_session = _calling(calls.create_session)
    get_session = _calling(calls.get_session)
    list_session_items = _calling(calls.list_session_items)
    delete_session = _calling(calls.delete_session)

    remember = _calling(calls.remember)
    list_memories = _calling(calls.list_memories)
    forget = _calling(calls.forget)
    forget_everything = _calling(calls.forget_everything)

    create_schedule = _calling(calls.create_schedule)
    get_schedule = _calling(calls.get_schedule)
    list_schedules = _calling(calls.list_schedules)
    list_schedule_runs = _calling(calls.list_schedule_runs)
    pause_schedule = _calling(calls.pause_schedule)
    resume_schedule = _calling(calls.resume_schedule)
    run_schedule = _calling(calls.run_schedule)
    delete_schedule = _calling(calls.delete_schedule)

    start_run = _calling(run_calls.start_run)
    get_run = _calling(run_calls.get_run)
    list_runs = _calling(run_calls.list_runs)
    cancel_run = _calling(run_calls.cancel_run)
    retry_run = _calling(run_calls.retry_run)
    resume_run = _calling(run_calls.resume_run)
    fork_run = _calling(run_calls.fork_run)
    list_run_steps = _calling(run_calls.list_run_steps)
    list_run_tool_calls = _calling(run_calls.list_run_tool_calls)
    list_run_checkpoints = _calling(run_calls.list_run_checkpoints)
    list_approvals = _calling(run_calls.list_approvals)
    decide_approval = _calling(run_calls.decide_approval)
    feedback = _calling(run_calls.feedback)

    health = _calling(calls.health)
    stats = _calling(calls.stats)

    @overload
    def chat(
        self,
        *,
        model: str,
        messages: Messages,
        stream: Literal[False] = False,
        session_id: str | None = None,
        **options: Any,  # noqa: ANN401 - of a chat completion
    ) -> Completion: ...

    @overload
    def chat(
        self,
        *,
        model: str,
        messages: Messages,
        stream: Literal[True],
        session_id: str | None = None,
        **options: Any,  # noqa: ANN401 - of a chat completion
    ) -> Stream: ...

    def chat(
        self,
        *,
        model: str,
        messages: Messages,
        stream: bool = False,
        session_id: str | None = None,
        **options: Any,
    ) -> Completion | Stream:
        """Ask an agent by its `model`; `options` are those of OpenAI's chat completions."""
        if stream:
            return Stream(self._stream(calls.streamed_chat(model, messages, session_id, options)))
        return self._call(calls.chat(model, messages, session_id, options))

    def events(self, run_id: str, after: int = 0) -> Stream:
        """What happens in a durable run, from any event on to the one that says how it ended.

        Connections that are lost and replicas that go away are made up for: each event comes once,
        with its `number`. Raises what can't be mended so, and ConnectionFailedError when no
        runtime answers for a minute."""
        return Stream(self._follow(Following(run_id, after)))

    def wait(self, run_id: str) -> Json:
        """The run, once it has ended. Raises as `events`."""
        run = self.get_run(run_id)
        if run["status"] not in run_calls.ENDED:
            for _ in self.events(run_id):
                pass
            run = self.get_run(run_id)
        return run

    def connect(self, user_id: str, session_id: str | None = None) -> Socket:
        """A WebSocket to `/api/streaming/ws/{user_id}`, for a `with`."""
        from runtime.client.sync_socket import Socket

        self._check_open()
        return Socket(self._options, user_id, session_id)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.base_url!r})"

    def _check_open(self) -> None:
        if self._http.is_closed:
            raise ClientClosedError

    def _call(self, call: Call[T]) -> T:
        response = self._sent(call, call.body, call.query, call.also)
        return answered(
            call, response.status_code, response.headers, response.content, self._options
        )

    def _sent(
        self,
        call: Call[T] | StreamCall,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str | int],
        also: tuple[int, ...] = (),
    ) -> httpx.Response:
        """With its body unread where it is a stream."""
        import httpx

        streams = isinstance(call, StreamCall)
        silence = httpx.Timeout(SILENCE_S, connect=CONNECT_S) if streams else self._http.timeout
        attempts = Attempts(call, self._options)
        while True:
            self._check_open()
            request = self._http.build_request(
                call.method,
                call.path,
                params=query,
                json=body,
                headers=attempts.headers,
                timeout=silence,
            )
            try:
                response = self._http.send(request, stream=streams)
                if response.is_success or response.status_code in also:
                    return response
                content = response.read()
            except httpx.HTTPError as error:
                wait_s = attempts.broke(error)
            else:
                response.close()
                wait_s = attempts.refused(response.status_code, response.headers, content)
            time.sleep(wait_s)

    def _stream(self, call: StreamCall) -> Generator[Event]:
        import httpx

        response = self._sent(call, call.body, call.query)
        decoder = call.decoder()
        try:
            for data in response.iter_bytes():
                yield from decoder.feed(data)
        except httpx.HTTPError as error:
            failed = connection_failed(error, self._options)
            if isinstance(failed, RequestTimeoutError):
                raise failed from error
            raise StreamBrokenError("The answer broke off: the connection was lost.") from error
        finally:
            response.close()
        decoder.end()

    def _follow(self, following: Following) -> Generator[Event]:
        while not following.over:
            try:
                yield from self._stream(following.call())
            except RuntimeClientError as error:
                time.sleep(following.lost(error))


class Stream:
    """An answer as it comes: events, or only its text. The request is sent with the first one.

    A `with` closes the connection when it is left early, which stops the run,
    unless it is a durable one.
    """

    def __init__(self, events: Generator[Event]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def texts(self) -> Iterator[str]:
        """The pieces of text, without anything else."""
        return (event.text for event in self if isinstance(event, TextDelta))

    def text(self) -> str:
        """All of the text, once it has come."""
        text = Text()
        for event in self:
            text.add(event)
        return str(text)

    def close(self) -> None:
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
