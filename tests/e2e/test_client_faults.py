"""What the Python clients make of a server that fails, is slow, or is none."""

import asyncio
from time import monotonic

import pytest

from runtime.client import (
    AgentRuntimeClient,
    AsyncAgentRuntimeClient,
    ClientClosedError,
    ConflictError,
    ConnectionFailedError,
    Event,
    RateLimitError,
    RequestTimeoutError,
    RuntimeClientError,
    SourceFailed,
    StreamBrokenError,
    TextDelta,
    UnavailableError,
    UnexpectedAnswerError,
    UpstreamError,
    attempts,
)
from tests.clients import KINDS, Either, Kind, either
from tests.scripted import HANG_UP, SILENCE, Reply, Scripted, saying, scripted, streaming

DONE = {"request_id": "req_1", "success": True, "data": {"agent_id": "agent_1"}, "error": None}
REFUSED = {"request_id": "req_1", "success": False, "data": None, "error": "No.", "code": "why"}
KEY = "a-key-that-is-nowhere-shown"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_WAIT_S", 0.01)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


async def made(kind: Kind, *replies: Reply, **options: object) -> tuple[Scripted, object]:
    """The agent that was made, or what was raised instead."""
    async with scripted(*replies) as server, either(kind, server.url, **options) as client:
        try:
            return server, await client.call("create_agent", "Bot")
        except RuntimeClientError as error:
            return server, error


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_may_succeed_later_is_sent_again(kind: Kind, status: int) -> None:
    server, answer = await made(kind, saying(REFUSED, status), saying(DONE))

    assert answer == DONE
    keys = {asked.headers["idempotency-key"] for asked in server.asked}
    assert (len(server.asked), len(keys)) == (2, 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 412, 413, 422, 500])
async def test_what_can_t_succeed_later_is_not(kind: Kind, status: int) -> None:
    server, error = await made(kind, saying(REFUSED, status))

    assert isinstance(error, RuntimeClientError)
    assert (error.status, error.code, error.message) == (status, "why", "No.")
    assert len(server.asked) == 1


async def test_a_server_that_says_not_to_is_not_asked_again(kind: Kind) -> None:
    server, error = await made(kind, saying(REFUSED, 429, x_should_retry="false"))

    assert isinstance(error, RateLimitError)
    assert len(server.asked) == 1


async def test_the_last_refusal_is_raised(kind: Kind) -> None:
    server, error = await made(kind, saying(REFUSED, 503), max_retries=3)

    assert isinstance(error, UnavailableError)
    assert len(server.asked) == 4


async def test_retry_after_is_waited_for(kind: Kind) -> None:
    since = monotonic()
    _, answer = await made(kind, saying(REFUSED, 429, retry_after_ms="300"), saying(DONE))

    assert answer == DONE
    assert monotonic() - since >= 0.3


async def test_a_long_retry_after_is_told_instead(kind: Kind) -> None:
    server, error = await made(kind, saying(REFUSED, 429, Retry_After="3600"))

    assert isinstance(error, RateLimitError)
    assert error.retry_after_s == 3_600
    assert len(server.asked) == 1


async def test_a_post_whose_connection_broke_is_sent_again_under_its_key(kind: Kind) -> None:
    in_flight = {**REFUSED, "code": "idempotency_key_in_use"}
    server, answer = await made(kind, HANG_UP, saying(in_flight, 409), saying(DONE))

    assert answer == DONE
    keys = {asked.headers["idempotency-key"] for asked in server.asked}
    assert (len(server.asked), len(keys)) == (3, 1)


async def test_without_retries_there_is_no_key_and_no_second_sending(kind: Kind) -> None:
    server, error = await made(kind, HANG_UP, saying(DONE), max_retries=0)

    assert isinstance(error, ConnectionFailedError)
    assert len(server.asked) == 1
    assert "idempotency-key" not in server.asked[0].headers


async def test_a_delete_whose_connection_broke_is_not_sent_again(kind: Kind) -> None:
    async with scripted(HANG_UP) as server, either(kind, server.url) as client:
        with pytest.raises(ConnectionFailedError):
            await client.call("delete_session", "conv_1")
        assert len(server.asked) == 1


async def test_two_calls_have_two_keys(kind: Kind) -> None:
    async with scripted(saying(DONE)) as server, either(kind, server.url) as client:
        for _ in range(2):
            await client.call("create_agent", "Bot")
        assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 2


async def test_nobody_at_the_address_is_told_without_the_key(kind: Kind) -> None:
    async with scripted(saying(DONE)) as server:
        pass
    async with either(kind, server.url, api_key=KEY, max_retries=1) as client:
        with pytest.raises(ConnectionFailedError, match=server.url) as error:
            await client.call("list_tools")
    assert KEY not in f"{error.value!r} {error.value.__cause__!r}"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"hello": "world"}', b""])
async def test_what_is_no_runtime_is_told_as_such(kind: Kind, body: bytes) -> None:
    _, error = await made(kind, Reply(body))
    assert isinstance(error, UnexpectedAnswerError)


async def test_an_error_page_of_a_proxy_is_still_its_status(kind: Kind) -> None:
    _, error = await made(kind, Reply(b"<html>Bad gateway", 502), max_retries=0)
    assert isinstance(error, UpstreamError)


async def test_a_redirect_is_not_followed_with_the_key(kind: Kind) -> None:
    async with scripted(saying(DONE)) as elsewhere:
        _, error = await made(kind, Reply(b"", 307, {"Location": elsewhere.url}), api_key=KEY)
        assert isinstance(error, RuntimeClientError)
        assert elsewhere.asked == []


async def test_a_silent_server_is_given_up_and_not_asked_twice(kind: Kind) -> None:
    server, error = await made(kind, SILENCE, timeout_s=0.2)

    assert isinstance(error, RequestTimeoutError)
    assert len(server.asked) == 1


async def streamed(kind: Kind, *replies: Reply) -> tuple[Scripted, list[Event], object]:
    """What was read, and what was raised in the end."""
    events: list[Event] = []
    async with scripted(*replies) as server, either(kind, server.url) as client:
        try:
            await read_into(client, events)
        except RuntimeClientError as error:
            return server, events, error
    return server, events, None


async def read_into(client: Either, events: list[Event]) -> None:
    if isinstance(client.client, AgentRuntimeClient):
        stream = client.client.stream_chat("Hello")
        await asyncio.to_thread(lambda: events.extend(iter(stream)))
        return
    async for event in client.client.stream_chat("Hello"):
        events.append(event)


def text(content: str, **more: object) -> dict[str, object]:
    return {"type": "text-delta", "content": content, **more}


FINISH = {"type": "finish", "finish_reason": "stop", "usage": {"total_tokens": 3}}


async def test_a_refused_stream_is_asked_for_again(kind: Kind) -> None:
    good = streaming(text("Hi"), FINISH)
    server, events, error = await streamed(kind, saying(REFUSED, 503), good)

    assert error is None
    assert [each.type for each in events] == ["text-delta", "finish"]
    assert len(server.asked) == 2


async def test_a_stream_that_breaks_off_is_never_asked_for_again(kind: Kind) -> None:
    server, events, error = await streamed(kind, streaming(text("Hi"), cut=True))

    assert isinstance(error, StreamBrokenError)
    assert [each.type for each in events] == ["text-delta"]
    assert len(server.asked) == 1


async def test_a_stream_without_its_end_is_broken(kind: Kind) -> None:
    _, _, error = await streamed(kind, streaming(text("Hi")))
    assert isinstance(error, StreamBrokenError)


async def test_an_error_in_a_stream_is_raised(kind: Kind) -> None:
    failed = {"type": "error", "error": "It failed.", "code": "upstream_error", "status": 502}
    _, events, error = await streamed(kind, streaming(text("Hi"), failed))

    assert isinstance(error, UpstreamError)
    assert (error.code, error.message) == ("upstream_error", "It failed.")
    assert len(events) == 1


async def test_one_answer_of_several_may_fail(kind: Kind) -> None:
    failed = {"type": "error", "source": "a", "error": "It failed.", "status": 502}
    reply = streaming(text("Hi", source="b"), failed, {**FINISH, "source": "b"}, {"type": "done"})
    _, events, error = await streamed(kind, reply)

    assert error is None
    assert isinstance(events[1], SourceFailed)
    assert events[1].source == "a"
    assert isinstance(events[1].error, UpstreamError)


async def test_every_letter_of_a_stream_arrives(kind: Kind) -> None:
    said = "a\u2028b\x85c\x0bd\n\r\ne 你好"
    _, events, error = await streamed(kind, streaming(text(said), FINISH))

    assert error is None
    assert isinstance(events[0], TextDelta)
    assert events[0].text == said


async def test_an_event_that_is_not_known_is_kept_as_it_is(kind: Kind) -> None:
    new = {"type": "brand-new", "some": "thing"}
    _, events, error = await streamed(kind, streaming(new, FINISH))

    assert error is None
    assert type(events[0]) is Event
    assert (events[0].type, events[0].data) == ("brand-new", {"some": "thing"})


async def test_garbage_in_a_stream_is_told(kind: Kind) -> None:
    _, _, error = await streamed(kind, streaming("{garbage"))
    assert isinstance(error, UnexpectedAnswerError)


@pytest.mark.parametrize(
    ("name", "args", "sent"),
    [
        (
            "register_provider",
            ["a", "openai", "gpt-4", KEY],
            "POST /api/streaming/providers/register",
        ),
        ("list_providers", [], "GET /api/streaming/providers?limit=50"),
        ("test_provider", ["a b"], "POST /v1/providers/a%20b/test"),
        ("remove_provider", ["a"], "DELETE /api/streaming/providers/a"),
        ("register_model", ["gpt-4", "openai"], "POST /api/models"),
        ("feedback", ["run_1", "up"], "POST /v1/runs/run_1/feedback"),
        ("stats", [], "GET /api/streaming/stats"),
    ],
)
async def test_a_call_goes_to_its_route(kind: Kind, name: str, args: list[str], sent: str) -> None:
    done = {**DONE, "providers": []}
    async with scripted(saying(done)) as server, either(kind, server.url) as client:
        await client.call(name, *args)

    [asked] = server.asked
    assert f"{asked.method} {asked.path}" == sent


async def test_only_what_is_given_is_sent(kind: Kind) -> None:
    async with scripted(saying(DONE)) as server, either(kind, server.url) as client:
        await client.call("register_model", "gpt-4", "openai", api_key_env_var="OPENAI_API_KEY")
        await client.call("feedback", "run_1", "down", "Too long.")

    assert server.asked[0].json == {
        "model_id": "gpt-4",
        "provider": "openai",
        "model_type": "chat",
        "api_key_env_var": "OPENAI_API_KEY",
    }
    assert server.asked[1].json == {"rating": "down", "comment": "Too long."}


async def test_a_closed_client_says_so(kind: Kind) -> None:
    async with scripted(saying(DONE)) as server:
        async with either(kind, server.url) as client:
            pass
        with pytest.raises(ClientClosedError):
            await client.call("list_tools")
        with pytest.raises(ClientClosedError):
            await client.read("stream_chat", "Hello")
        with pytest.raises(ClientClosedError):
            client.client.connect("ann")


@pytest.mark.parametrize("url", ["ftp://x", "nothing", "http://", "http://ann:secret@x"])
def test_an_address_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    for client in (AgentRuntimeClient, AsyncAgentRuntimeClient):
        with pytest.raises(ValueError, match="base_url") as error:
            client(url)
        assert "secret" not in str(error.value)


def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="api_key") as error:
        AgentRuntimeClient("http://127.0.0.1:1", api_key=f"{KEY}\n")
    assert KEY not in str(error.value)


async def test_health_tells_what_is_down_instead_of_raising(kind: Kind) -> None:
    down = {"status": "unhealthy", "services": {"agent_service": "unhealthy"}, "success": False}
    async with scripted(saying(down, 503)) as server, either(kind, server.url) as client:
        assert (await client.call("health"))["status"] == "unhealthy"
        assert len(server.asked) == 1


async def test_a_conflict_is_its_own_error(kind: Kind) -> None:
    _, error = await made(kind, saying(REFUSED, 409))
    assert isinstance(error, ConflictError)
