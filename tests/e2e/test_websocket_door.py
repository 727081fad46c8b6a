"""Who gets in over a WebSocket, what is thrown out, and how it is told."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.e2e.server import Json, Served, serving
from tests.e2e.talk import PATH, ends, of_type, talking
from tests.e2e.wire import Wire, connected, request
from tests.upstream import FakeUpstream

TOKEN = "correct-horse-battery"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)
ENDLESS = "delay:20 words:100000"


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, token=TOKEN) as served:
        yield served


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def refusal(
    served: Served, headers: dict[str, str] | None = None, who: str = "ann"
) -> tuple[int, Json]:
    """The status of a handshake that fails, and its body."""
    with pytest.raises(InvalidStatus) as refused:
        async with talking(served.url, who, headers):
            pass
    response = refused.value.response
    assert response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    body: Json = json.loads(response.body or b"{}")
    return response.status_code, body


async def shaken(wire: Wire, *more: str, path: str = f"{PATH}ann") -> None:
    await wire.send(request("GET", path, *UPGRADE, *more))
    head = await wire.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")


def masked(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client's frame; the mask is all zeros."""
    head = bytes([(0x80 if fin else 0) | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", size)
    return head + bytes(4) + payload


def said(message_type: str, **data: object) -> bytes:
    return masked(1, json.dumps({"message_type": message_type, "data": data}).encode())


async def outcome(wire: Wire) -> tuple[list[str], int]:
    """The codes of the errors that are told, and the one of the close frame."""
    told = await wire.closed()
    errors: list[str] = []
    at = 0
    while at < len(told):
        opcode, size = told[at] & 0x0F, told[at + 1]
        at += 2
        if size == 126:
            size, at = int.from_bytes(told[at : at + 2], "big"), at + 2
        payload = told[at : at + size]
        at += size
        if opcode == 8:
            return errors, int.from_bytes(payload[:2], "big")
        if opcode != 1:
            continue
        frame: Any = json.loads(payload)
        if frame["message_type"] == "error":
            assert frame["data"]["status"] >= 400
            errors.append(frame["data"]["code"])
    return errors, 0


# Who


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_a_foreign_web_page_does_not_get_in(runtime: Served, headers: dict[str, str]) -> None:
    async with connected(runtime.url) as wire:
        host = headers.get("Host", "127.0.0.1")
        more = [f"{name}: {value}" for name, value in headers.items() if name != "Host"]
        await wire.send(request("GET", f"{PATH}ann", *UPGRADE, *more, host=host))
        answer = await wire.answer()

    assert answer.status == 403
    assert answer.json["code"] == "forbidden"


async def test_a_page_of_our_own_does(runtime: Served) -> None:
    async with talking(runtime.url, origin=runtime.url):
        pass


async def test_a_credential_in_a_header_opens_it(guarded: Served) -> None:
    for headers in (bearer(TOKEN), {"X-Runtime-Token": TOKEN}):
        async with talking(guarded.url, "user123", headers, greeted=False) as talk:
            assert (await talk.hear())["data"]["user_id"] == "user123"


async def test_a_wrong_one_is_refused_before_it_opens(guarded: Served) -> None:
    for headers in (bearer("wrong"), {**bearer("wrong"), "X-Runtime-Token": TOKEN}):
        status, body = await refusal(guarded, headers)
        assert (status, body["code"], body["success"]) == (401, "invalid_token", False)


async def test_a_browser_shows_its_credential_in_the_first_message(guarded: Served) -> None:
    async with talking(guarded.url, greeted=False) as talk:
        assert (await talk.hear())["message_type"] == "auth_required"
        await talk.say("auth", token=TOKEN)
        assert (await talk.hear())["message_type"] == "connected"
        await talk.ask("Hello", "r-1")
        assert (await talk.answer("r-1"))[-1]["event_type"] == "finish"


@pytest.mark.parametrize(
    "first",
    [
        '{"message_type": "auth", "data": {"token": "wrong"}}',
        '{"message_type": "auth", "data": {}}',
        '{"message_type": "ping", "data": {}}',
        "nonsense",
    ],
)
async def test_whoever_shows_none_is_shown_the_door(guarded: Served, first: str) -> None:
    async with talking(guarded.url, greeted=False) as talk:
        await talk.hear()
        await talk.socket.send(first)
        code, heard = await talk.closed()

    assert code == 1008
    assert [frame["message_type"] for frame in heard] == ["error"]
    assert TOKEN not in json.dumps(heard)
    assert "wrong" not in json.dumps(heard)


async def test_who_says_nothing_is_not_waited_for(
    guarded: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.infrastructure.web.websocket.door.AUTH_WITHIN_S", 0.2)
    async with talking(guarded.url, greeted=False) as talk:
        code, heard = await talk.closed()
    assert code == 1008
    assert heard[-1]["data"]["code"] == "invalid_token"


async def test_a_token_in_the_address_is_none(guarded: Served) -> None:
    async with talking(guarded.url, f"ann?token={TOKEN}", greeted=False) as talk:
        assert (await talk.hear())["message_type"] == "auth_required"


async def test_only_an_admin_acts_in_the_name_that_the_path_says(guarded: Served) -> None:
    key = await guarded.post(
        "/v1/keys", {"name": "CI", "user_id": "ben", "roles": ["editor"]}, status=201
    )
    async with talking(guarded.url, "ann", bearer(key["key"]), greeted=False) as talk:
        assert (await talk.hear())["data"]["user_id"] == "ben"
        await talk.ask("Hello", "r-1")
        run = (await talk.answer("r-1"))[0]["event_data"]["run_id"]
    assert (await guarded.get(f"/v1/runs/{run}"))["owner_id"] == "ben"


async def test_a_revoked_key_ends_its_connections_and_their_runs_within_five_seconds(
    tmp_path: Path,
) -> None:
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path, token=TOKEN, openai_base_url=upstream.base_url, openai_api_key="sk-t"
        ) as served,
    ):
        key = await served.post(
            "/v1/keys", {"name": "CI", "user_id": "ann", "roles": ["editor"]}, status=201
        )
        async with talking(served.url, "ann", bearer(key["key"])) as talk:
            await talk.ask(ENDLESS, "r-1")
            await talk.until(lambda frame: frame["data"].get("event_number") == 3)
            await served.http.delete(f"/v1/keys/{key['id']}")
            async with asyncio.timeout(5):
                code, heard = await talk.closed()
                await upstream.requests[0].closed.wait()

    assert code == 1008
    assert of_type(heard, "error")[-1]["code"] == "invalid_token"


async def test_a_revoked_key_asks_nothing_more_though_its_client_reads_nothing(
    tmp_path: Path,
) -> None:
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path,
            token=TOKEN,
            openai_base_url=upstream.base_url,
            openai_api_key="sk-t",
            send_timeout_s=30,
        ) as served,
    ):
        made = {"name": "CI", "user_id": "ann", "roles": ["editor"]}
        key = await served.post("/v1/keys", made, status=201)
        async with connected(served.url) as wire:
            await shaken(wire, f"Authorization: Bearer {key['key']}")
            for number in range(8):
                asked = {
                    "message": "words:100000",
                    "provider_id": "openai",
                    "request_id": f"r-{number}",
                }
                await wire.send(said("chat_request", **asked))
            # More than fits into what lies between them, which nobody reads.
            await served.until(lambda health: health["metrics"]["running"] == 8, "/v1/health")
            await asyncio.sleep(1)
            await served.http.delete(f"/v1/keys/{key['id']}")
            await served.until(lambda health: health["metrics"]["running"] == 0, "/v1/health")
            await wire.send(said("chat_request", message="Hello", provider_id="openai"))
            await asyncio.sleep(0.3)
            assert len(upstream.requests) == 8


async def test_a_caller_may_show_a_newer_token_and_nobody_else_s(guarded: Served) -> None:
    keys = [
        (await guarded.post("/v1/keys", {"name": "CI", "user_id": user}, status=201))["key"]
        for user in ("ann", "ann", "ben")
    ]
    async with talking(guarded.url, "ann", bearer(keys[0])) as talk:
        await talk.say("auth", token=keys[1])
        assert (await talk.hear())["message_type"] == "authenticated"
        await talk.say("auth", token=keys[2])
        assert (await talk.closed())[0] == 1008


async def test_each_user_has_so_many_connections(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, ws_max_connections_per_user=2) as served,
        talking(served.url),
        talking(served.url),
        talking(served.url, "ben"),
    ):
        async with talking(served.url, greeted=False) as talk:
            code, heard = await talk.closed()
        assert (code, heard[0]["data"]["code"]) == (1008, "rate_limit_exceeded")
    assert len(served.container.connections()) == 0


# The handshake


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", UPGRADE, 400),
        ("GET", UPGRADE[:3], 400),
        ("GET", (*UPGRADE[:3], "Sec-WebSocket-Key: short"), 400),
        ("GET", (*UPGRADE, f"Sec-WebSocket-Key: {KEY}"), 400),
        ("GET", (*UPGRADE[:2], "Sec-WebSocket-Version: 8", UPGRADE[3]), 426),
        ("GET", (*UPGRADE, "Content-Length: 5"), 400),
        ("GET", (*UPGRADE, "X-Big: " + "x" * 70_000), 431),
    ],
)
async def test_a_malformed_handshake_is_refused_as_any_request(
    runtime: Served, method: str, headers: tuple[str, ...], status: int
) -> None:
    async with connected(runtime.url) as wire:
        await wire.send(request(method, f"{PATH}ann", *headers))
        answer = await wire.answer()

    assert answer.status == status
    assert answer.json["success"] is False
    assert answer.headers["x-request-id"]
    assert (answer.headers.get("sec-websocket-version") == "13") == (status == 426)


async def test_there_is_a_websocket_at_one_address_only(runtime: Served) -> None:
    for path in ("/api/streaming/ws", "/v1/models", "/api/streaming/ws/a/b"):
        async with connected(runtime.url) as wire:
            await wire.send(request("GET", path, *UPGRADE))
            assert (await wire.answer()).status == 404


@pytest.mark.parametrize(
    "who", ["ann?session_id=%00", "ann?session_id=a&session_id=b", "x" * 300, "ann%00"]
)
async def test_a_name_that_is_none_is_refused(runtime: Served, who: str) -> None:
    status, body = await refusal(runtime, who=who)
    assert (status, body["code"]) == (400, "invalid_value")


async def test_a_long_credential_is_no_problem(guarded: Served) -> None:
    status, _ = await refusal(guarded, bearer("x" * 20_000))
    assert status == 401


async def test_connections_count_with_all_others(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, max_connections_per_client=2) as served,
        talking(served.url),
        talking(served.url),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with talking(served.url):
                pass
        assert refused.value.response.status_code == 429
    assert served.container.connections().draining


async def test_the_answer_to_a_handshake_has_the_request_s_id(runtime: Served) -> None:
    async with talking(runtime.url, headers={"x-request-id": "mine-1"}) as talk:
        assert talk.socket.response
        assert talk.socket.response.headers["x-request-id"] == "mine-1"
        assert "Sec-WebSocket-Extensions" not in talk.socket.response.headers


# Messages


MALFORMED = ["nonsense", "[]", "{}", '{"message_type": 1}', '{"message_type": "x", "data": []}']


@pytest.mark.parametrize(
    "message",
    [*MALFORMED, '{"message_type": "unknown"}', '{"message_type": "ping", "data": {"a": NaN}}'],
)
async def test_a_malformed_message_is_told_and_the_connection_stays(
    runtime: Served, message: str
) -> None:
    async with talking(runtime.url) as talk:
        await talk.socket.send(message)
        told = await talk.hear()
        assert (told["message_type"], told["data"]["code"]) == ("error", "invalid_frame")
        await talk.say("ping")
        assert (await talk.hear())["message_type"] == "pong"


async def test_whoever_sends_nothing_else_is_thrown_out(runtime: Served) -> None:
    async with talking(runtime.url) as talk:
        for message in MALFORMED:
            await talk.socket.send(message)
        code, heard = await talk.closed()
    assert code == 1008
    assert [frame["message_type"] for frame in heard] == ["error"] * 5


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "nobody", "content": "Hi"}]}, "messages.0"),
        ({"message": "Hi", "request_id": "with space"}, "request_id"),
        ({"message": "Hi", "temperature": "hot"}, "temperature"),
        ({"message": "Hi", "n": 3}, "n"),
        ({"message": "Hi", "resumable": "yes"}, "resumable"),
        ({"message": "Hi", "agent_id": "a", "provider_id": "b"}, "provider_id"),
        ({"message": "Hi", "session_id": 5}, "session_id"),
        ({"message": "Hi", "options": []}, "options"),
        ({"message": "Hi", "n": 1, "options": {"n": 1}}, "n"),
        ({"message": "Hi", "metadata": {"user_id": ""}}, "metadata.user_id"),
    ],
)
async def test_a_wrong_request_is_told_by_its_field(
    runtime: Served, data: Json, param: str
) -> None:
    async with talking(runtime.url) as talk:
        await talk.say("chat_request", **data)
        told = await talk.hear()

    assert told["message_type"] == "error"
    assert told["data"]["param"] == param
    assert told["data"]["status"] == 400


async def test_a_name_that_is_too_long_is_not_said_again(runtime: Served) -> None:
    async with talking(runtime.url) as talk:
        await talk.ask("Hi", "x" * 5_000)
        told = (await talk.hear())["data"]

    assert told["param"] == "request_id"
    assert "request_id" not in told


async def test_a_request_id_that_is_taken_is_refused(runtime: Served) -> None:
    async with talking(runtime.url) as talk:
        await talk.ask("fault", "r-1", resumable=True)
        await talk.until(ends("r-1"))
        await talk.ask("Hello", "r-1", resumable=True)
        assert (await talk.hear())["data"]["code"] == "request_id_in_use"


async def test_so_many_requests_go_on_at_once(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, ws_max_requests=2, demo_token_delay_ms=50) as served,
        talking(served.url) as talk,
    ):
        for number in range(3):
            await talk.ask("Hello", f"r-{number}")
        told = (await talk.until(ends("r-2")))[-1]["data"]
        assert told["code"] == "rate_limit_exceeded"
        for number in range(2):
            await talk.say("cancel", request_id=f"r-{number}")


async def test_events_that_are_gone_are_told(runtime: Served) -> None:
    async with talking(runtime.url) as talk:
        await talk.ask("Hello", "r-1", resumable=True)
        last = (await talk.answer("r-1"))[-1]["event_number"]
        await talk.say("resume", request_id="r-1", last_event=last + 1)
        told = (await talk.hear())["data"]
    assert (told["code"], told["details"]) == ("events_gone", {"first": 0, "last": last})


async def test_who_says_nothing_for_long_is_let_go(tmp_path: Path) -> None:
    async with serving(tmp_path, ws_idle_s=0.2) as served, talking(served.url) as talk:
        code, _ = await talk.closed()
    assert code == 1000


# Frames


@pytest.mark.parametrize(
    ("frames", "told", "code"),
    [
        (masked(2, b"\x00\x01"), ["invalid_frame"], 1003),
        (masked(1, b"x" * 20_000), ["payload_too_large"], 1009),
        (masked(1, b"x" * 6_000, fin=False) + masked(0, b"x" * 6_000), ["payload_too_large"], 1009),
        (masked(1, b"\xff\xfe"), ["invalid_frame"], 1007),
        (b"\x81\x02hi", ["invalid_frame"], 1002),
        (masked(3, b""), ["invalid_frame"], 1002),
        (masked(0, b"x"), ["invalid_frame"], 1002),
        (masked(9, b"x" * 200), ["invalid_frame"], 1002),
        (b"\xf1" + masked(1, b"{}")[1:], ["invalid_frame"], 1002),
    ],
)
async def test_a_broken_frame_is_told_and_closes_the_connection(
    tmp_path: Path, frames: bytes, told: list[str], code: int
) -> None:
    async with serving(tmp_path, ws_max_frame_bytes=10_000) as served:
        async with connected(served.url) as wire:
            await shaken(wire)
            await wire.send(frames)
            assert await outcome(wire) == (told, code)
        assert len(served.container.connections()) == 0


@pytest.mark.parametrize(
    "frame",
    [masked(9, b""), masked(10, b""), masked(1, b'{"message_type": "ping"}')],
    ids=["ping", "pong", "text"],
)
async def test_too_many_frames_end_the_connection(tmp_path: Path, frame: bytes) -> None:
    async with (
        serving(tmp_path, ws_max_frames_per_s=20) as served,
        connected(served.url) as wire,
    ):
        await shaken(wire)
        await wire.send(frame * 50)
        assert await outcome(wire) == (["rate_limit_exceeded"], 1008)


async def test_fragments_without_end_are_not_collected(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, ws_max_frames_per_s=100_000) as served,
        connected(served.url) as wire,
    ):
        await shaken(wire)
        await wire.send(masked(1, b"", fin=False) + masked(0, b"", fin=False) * 5_000)
        assert await outcome(wire) == (["payload_too_large"], 1009)


async def test_pings_of_a_client_that_does_not_read_pile_up_nowhere(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, ws_max_frames_per_s=1_000_000, send_timeout_s=0.5) as served,
        connected(served.url) as wire,
    ):
        await shaken(wire)
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            with pytest.raises(ConnectionError):
                await _for_ever(wire, masked(9, b"x" * 125) * 1_000)
        await served.until(lambda health: health["metrics"]["running"] == 0, "/v1/health")


async def _for_ever(wire: Wire, frames: bytes) -> None:
    while True:
        await wire.send(frames)


async def test_a_message_in_fragments_is_one_message(runtime: Served) -> None:
    async with talking(runtime.url) as talk:
        await talk.socket.send(['{"message_type": ', '"ping", ', '"data": {"at": 1}}'])
        assert (await talk.hear())["data"] == {"at": 1}


async def test_the_address_is_no_page(runtime: Served) -> None:
    async with httpx.AsyncClient(base_url=runtime.url) as http:
        assert (await http.get(f"{PATH}ann")).status_code == 404
