"""The clients' WebSocket against a scripted server, which is real but says what a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from itertools import count
from typing import Any, cast

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from runtime.client import (
    AgentRuntimeClient,
    AsyncAgentRuntimeClient,
    AuthenticationError,
    ConnectionFailedError,
    Event,
    Finish,
    RuntimeClientError,
    StreamBrokenError,
    TextDelta,
    UnavailableError,
    UpstreamError,
    conversing,
)
from runtime.client.async_socket import AsyncSocket
from runtime.client.sync_socket import Socket
from tests.clients import KINDS, Kind

Json = dict[str, Any]
Said = Callable[["Line"], Awaitable[None]]
KEY = "a-key-that-is-nowhere-shown"


class Line:
    """One connection, as its server sees it."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def tell(self, message_type: str, **data: object) -> None:
        await self.socket.send(json.dumps({"message_type": message_type, "data": data}))

    async def hear(self, message_type: str) -> Json:
        said: Json = json.loads(await self.socket.recv())
        assert said["message_type"] == message_type, said
        data: Json = said["data"]
        return data

    async def event(self, id: str, number: int, type: str = "text-delta", **data: object) -> None:
        data = data or {"content": f"{number} "}
        told = {"request_id": id, "event_number": number, "event_type": type, "event_data": data}
        await self.tell("stream_event", **told)

    async def end(self, id: str, number: int, status: str = "completed") -> None:
        await self.event(id, number, "finish", finish_reason="stop", usage=None)
        await self.tell("stream_end", request_id=id, status=status, last_event=number)


class Server:
    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self.credentials: list[str | None] = []
        self.problems: list[BaseException] = []


@asynccontextmanager
async def saying(*scripts: Said, draining: tuple[int, ...] = ()) -> AsyncIterator[Server]:
    """Each connection follows the next script; those of `draining`, from 0, are refused."""
    server, left, tries = Server(), list(scripts), count()

    def refuse(socket: ServerConnection, _: Request) -> Response | None:
        if next(tries) not in draining:
            return None
        return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, '{"error": "Stopping."}')

    async def follow(socket: ServerConnection) -> None:
        assert socket.request is not None
        server.paths.append(socket.request.path)
        server.credentials.append(socket.request.headers.get("Authorization"))
        script = left.pop(0)
        try:
            await script(Line(socket))
        except ConnectionClosed:
            pass
        except BaseException as error:
            server.problems.append(error)
            raise

    async with serve(follow, "127.0.0.1", 0, process_request=refuse) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        server.url = f"http://127.0.0.1:{port}"
        yield server
    assert not server.problems


def connected(script: Said) -> Said:
    async def begin(line: Line) -> None:
        await line.tell("connected", connection_id="conn_1", user_id="ann", session_id=None)
        await script(line)

    return begin


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversing, "FIRST_WAIT_S", 0.01)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


async def ask(kind: Kind, url: str, **options: Any) -> tuple[list[Event], object]:  # noqa: ANN401
    """The events of one answer, and what was raised in the end."""
    events: list[Event] = []
    key = options.pop("api_key", None)
    try:
        if kind == "sync":
            await asyncio.to_thread(_ask, url, key, events, options)
        else:
            async with AsyncAgentRuntimeClient(url, key) as client, client.connect("ann") as socket:
                async for event in socket.chat("Hello", **options):
                    events.append(event)
    except RuntimeClientError as error:
        return events, error
    return events, None


def _ask(url: str, key: str | None, events: list[Event], options: Json) -> None:
    with AgentRuntimeClient(url, key) as client, client.connect("ann") as socket:
        events.extend(iter(socket.chat("Hello", **options)))


def numbers(events: list[Event]) -> list[int | None]:
    return [event.number for event in events]


async def test_an_answer_comes_as_numbered_events(kind: Kind) -> None:
    heard: Json = {}

    @connected
    async def answer(line: Line) -> None:
        heard.update(await line.hear("chat_request"))
        id = heard["request_id"]
        await line.tell("request_accepted", request_id=id, resumable=True)
        await line.event(id, 1)
        await line.event(id, 2)
        await line.end(id, 3)

    async with saying(answer) as server:
        events, error = await ask(kind, server.url, agent_id="assistant", api_key=KEY)

    assert error is None
    assert numbers(events) == [1, 2, 3]
    assert isinstance(events[0], TextDelta)
    assert isinstance(events[-1], Finish)
    assert heard["messages"] == [{"role": "user", "content": "Hello"}]
    assert (heard["agent_id"], heard["resumable"]) == ("assistant", True)
    assert server.paths == ["/api/streaming/ws/ann"]
    assert server.credentials == [f"Bearer {KEY}"]


async def test_a_lost_connection_is_made_again_and_the_answer_goes_on(kind: Kind) -> None:
    @connected
    async def begin(line: Line) -> None:
        id = (await line.hear("chat_request"))["request_id"]
        await line.tell("request_accepted", request_id=id, resumable=True)
        await line.event(id, 1)
        await line.event(id, 2)
        line.socket.transport.abort()

    @connected
    async def go_on(line: Line) -> None:
        again = await line.hear("resume")
        assert again["last_event"] == 2
        await line.event(again["request_id"], 2)
        await line.event(again["request_id"], 3)
        await line.end(again["request_id"], 4)

    async with saying(begin, go_on) as server:
        events, error = await ask(kind, server.url)

    assert error is None
    assert numbers(events) == [1, 2, 3, 4]


async def test_a_runtime_that_restarts_is_waited_for(kind: Kind) -> None:
    @connected
    async def begin(line: Line) -> None:
        id = (await line.hear("chat_request"))["request_id"]
        await line.event(id, 1)
        await line.socket.close(1012)

    @connected
    async def go_on(line: Line) -> None:
        id = (await line.hear("resume"))["request_id"]
        await line.end(id, 2)

    async with saying(begin, go_on, draining=(0, 2, 3)) as server:
        events, error = await ask(kind, server.url)

    assert error is None
    assert numbers(events) == [1, 2]


async def test_a_runtime_that_only_drains_is_told(kind: Kind) -> None:
    async with saying(draining=(0, 1, 2)) as server:
        _, error = await ask(kind, server.url)
    assert isinstance(error, UnavailableError)


async def test_a_request_that_never_arrived_is_made_again(kind: Kind) -> None:
    @connected
    async def lose(line: Line) -> None:
        await line.hear("chat_request")
        line.socket.transport.abort()

    @connected
    async def take(line: Line) -> None:
        id = (await line.hear("resume"))["request_id"]
        told = {"code": "stream_not_found", "error": "There is none.", "status": 404}
        await line.tell("error", request_id=id, **told)
        assert (await line.hear("chat_request"))["request_id"] == id
        await line.tell("request_accepted", request_id=id, resumable=True)
        await line.end(id, 1)

    async with saying(lose, take) as server:
        events, error = await ask(kind, server.url)

    assert error is None
    assert numbers(events) == [1]


async def test_an_answer_that_is_gone_is_told(kind: Kind) -> None:
    @connected
    async def begin(line: Line) -> None:
        id = (await line.hear("chat_request"))["request_id"]
        await line.event(id, 1)
        line.socket.transport.abort()

    @connected
    async def forget(line: Line) -> None:
        id = (await line.hear("resume"))["request_id"]
        told = {"code": "stream_not_found", "error": "There is none.", "status": 404}
        await line.tell("error", request_id=id, **told)
        await line.socket.wait_closed()

    async with saying(begin, forget) as server:
        events, error = await ask(kind, server.url)

    assert numbers(events) == [1]
    assert isinstance(error, RuntimeClientError)
    assert error.code == "stream_not_found"


async def test_what_can_t_be_resumed_is_broken_by_a_lost_connection(kind: Kind) -> None:
    @connected
    async def begin(line: Line) -> None:
        id = (await line.hear("chat_request"))["request_id"]
        await line.event(id, 1)
        line.socket.transport.abort()

    @connected
    async def wait(line: Line) -> None:
        await line.socket.wait_closed()

    async with saying(begin, wait) as server:
        events, error = await ask(kind, server.url, resumable=False)

    assert numbers(events) == [1]
    assert isinstance(error, StreamBrokenError)


async def test_a_failed_run_is_raised(kind: Kind) -> None:
    @connected
    async def fail(line: Line) -> None:
        id = (await line.hear("chat_request"))["request_id"]
        failed = {"error": "It failed.", "code": "upstream_error", "status": 502}
        await line.event(id, 1, "error", **failed)
        await line.tell("stream_end", request_id=id, status="failed", last_event=1)
        await line.socket.wait_closed()

    async with saying(fail) as server:
        _, error = await ask(kind, server.url)
    assert isinstance(error, UpstreamError)
    assert error.code == "upstream_error"


async def test_the_key_is_said_where_it_is_asked_for(kind: Kind) -> None:
    async def ask_for_it(line: Line) -> None:
        await line.tell("auth_required", within_s=10)
        assert (await line.hear("auth")) == {"token": KEY}
        await line.tell("connected", connection_id="conn_1", user_id="ann", session_id=None)
        id = (await line.hear("chat_request"))["request_id"]
        await line.end(id, 1)

    async with saying(ask_for_it) as server:
        events, error = await ask(kind, server.url, api_key=KEY)
    assert (numbers(events), error) == ([1], None)


async def test_a_refused_key_is_told_and_not_tried_again(kind: Kind) -> None:
    async def refuse(line: Line) -> None:
        told = {"code": "invalid_token", "error": "The token is not valid.", "status": 401}
        await line.tell("error", **told)
        await line.socket.close(1008)

    async with saying(refuse) as server:
        _, error = await ask(kind, server.url, api_key=KEY)
    assert isinstance(error, AuthenticationError)
    assert KEY not in str(error)


async def test_a_runtime_that_is_gone_is_given_up(kind: Kind, monkeypatch: Any) -> None:  # noqa: ANN401
    monkeypatch.setattr(conversing, "MOST_RECONNECTS", 2)

    @connected
    async def leave(line: Line) -> None:
        await line.hear("chat_request")
        listening.close(close_connections=False)
        line.socket.transport.abort()

    async def follow(socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await leave(Line(socket))

    async with serve(follow, "127.0.0.1", 0) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        _, error = await ask(kind, f"http://127.0.0.1:{port}")
    assert isinstance(error, ConnectionFailedError)


async def test_two_answers_come_over_one_connection() -> None:
    @connected
    async def answer(line: Line) -> None:
        ids = [(await line.hear("chat_request"))["request_id"] for _ in range(2)]
        for number in (1, 2):
            for id in ids:
                await line.event(id, number)
        for id in reversed(ids):
            await line.end(id, 3)
        await line.socket.wait_closed()

    async with (
        saying(answer) as server,
        AsyncAgentRuntimeClient(server.url) as client,
        client.connect("ann", "s 1") as socket,
        asyncio.TaskGroup() as group,
    ):
        found = [group.create_task(socket.chat("Hello").text()) for _ in range(2)]
    assert [task.result() for task in found] == ["1 2 "] * 2
    assert server.paths == ["/api/streaming/ws/ann?session_id=s%201"]


async def test_an_answer_is_cancelled_and_rated(kind: Kind) -> None:
    @connected
    async def stop(line: Line) -> None:
        id = (await line.hear("chat_request"))["request_id"]
        await line.event(id, 1, "start", run_id="run_1")
        assert (await line.hear("cancel"))["request_id"] == id
        await line.tell("stream_end", request_id=id, status="cancelled", last_event=1)
        given = await line.hear("feedback")
        assert given == {"rating": "down", "run_id": "run_1", "comment": "Too long."}
        await line.tell("feedback_ack", run_id="run_1", rating="down")
        await line.hear("feedback")
        await line.tell("error", code="run_not_found", error="There is none.", status=404)
        await line.socket.wait_closed()

    async with saying(stop) as server:
        if kind == "sync":
            await asyncio.to_thread(_cancel_and_rate, server.url)
            return
        async with AsyncAgentRuntimeClient(server.url) as client, client.connect("ann") as socket:
            chat = socket.chat("Hello")
            async for _ in chat:
                await chat.cancel()
            assert (chat.status, chat.run_id) == ("cancelled", "run_1")
            ack = await socket.feedback("down", cast(str, chat.run_id), "Too long.")
            assert ack["run_id"] == "run_1"
            with pytest.raises(RuntimeClientError, match="none"):
                await socket.feedback("up", "run_2")


async def test_a_cancel_that_comes_too_late_says_nothing_about_an_opinion(kind: Kind) -> None:
    @connected
    async def late(line: Line) -> None:
        id = (await line.hear("chat_request"))["request_id"]
        await line.event(id, 1, "start", run_id="run_1")
        await line.hear("cancel")
        await line.end(id, 2)
        gone = {"code": "stream_not_found", "error": "There is none.", "status": 404}
        await line.tell("error", request_id=id, **gone)
        await line.hear("feedback")
        await line.tell("feedback_ack", run_id="run_1", rating="up")
        await line.socket.wait_closed()

    async with saying(late) as server:
        if kind == "sync":
            await asyncio.to_thread(_cancel_late, server.url)
            return
        async with AsyncAgentRuntimeClient(server.url) as client, client.connect("ann") as socket:
            chat = socket.chat("Hello")
            await anext(aiter(chat))
            await chat.cancel()
            assert [event.type async for event in chat] == ["finish"]
            assert (await socket.feedback("up", "run_1"))["run_id"] == "run_1"


def _cancel_late(url: str) -> None:
    with AgentRuntimeClient(url) as client, client.connect("ann") as socket:
        chat = socket.chat("Hello")
        next(iter(chat))
        chat.cancel()
        assert [event.type for event in chat] == ["finish"]
        assert socket.feedback("up", "run_1")["run_id"] == "run_1"


def _cancel_and_rate(url: str) -> None:
    with AgentRuntimeClient(url) as client, client.connect("ann") as socket:
        chat = socket.chat("Hello")
        for _ in chat:
            chat.cancel()
        assert (chat.status, chat.run_id) == ("cancelled", "run_1")
        assert socket.feedback("down", cast(str, chat.run_id), "Too long.")["run_id"] == "run_1"
        with pytest.raises(RuntimeClientError, match="none"):
            socket.feedback("up", "run_2")


def test_both_sockets_say_the_same() -> None:
    for name in ("chat", "feedback", "ping"):
        said, also = getattr(AsyncSocket, name), getattr(Socket, name)
        assert said.__doc__ == also.__doc__
        assert (
            said.__code__.co_varnames[: said.__code__.co_argcount]
            == (also.__code__.co_varnames[: also.__code__.co_argcount])
        )
