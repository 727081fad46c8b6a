"""A request that is sent again under its `Idempotency-Key`."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any

import httpx
import jwt
import openai
import pytest

from tests.e2e.process import process
from tests.e2e.server import Json, Served, serving
from tests.postgres import fresh_database
from tests.upstream import Exchange, FakeUpstream, faults

CHAT = "/v1/chat/completions"
SLOW = "delay:40 words:10"
AGENT = {"name": "Bot", "template_id": "langgraph-simple-test"}
SECRET = "a-secret-that-only-the-tests-know-of"


@dataclass
class Setup:
    runtime: Served
    upstream: FakeUpstream

    async def send(
        self, path: str, body: object = None, key: str = "k-1", **headers: str
    ) -> httpx.Response:
        named = {"Idempotency-Key": key, **{n.replace("_", "-"): v for n, v in headers.items()}}
        return await self.runtime.http.post(path, json=body, headers=named)

    async def ask(self, text: str = "Hello", key: str = "k-1", **options: Any) -> httpx.Response:  # noqa: ANN401 - JSON
        return await self.send(CHAT, asking(text, **options), key)

    @property
    def calls(self) -> int:
        """To the model's provider: one for each run."""
        return len(self.upstream.requests)

    async def begun(self, asked: asyncio.Task[httpx.Response]) -> asyncio.Task[httpx.Response]:
        await self.upstream.arrived.wait()
        return asked


def asking(text: str, **options: Any) -> Json:  # noqa: ANN401 - JSON
    messages = [{"role": "user", "content": text}]
    return {"model": "assistant", "messages": messages, **options}


def code(response: httpx.Response) -> str:
    error = response.json()
    return str(error["details"]["code"] if "details" in error else error["error"]["code"])


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    with fresh_database() as url:
        yield url


@pytest.fixture
async def setup(tmp_path: Path, database_url: str) -> AsyncIterator[Setup]:
    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path,
            database_url=database_url,
            openai_base_url=upstream.base_url,
            openai_api_key="sk-test",
            model_attempts=1,
            max_idempotent_answer_bytes=100_000,
        ) as runtime,
    ):
        yield Setup(runtime, upstream)


@pytest.mark.parametrize(
    "options",
    [{}, {"stream": True}, {"stream": True, "n": 3}, {"n": 2}],
    ids=["whole", "stream", "choices streamed", "choices"],
)
async def test_a_repeat_gets_the_same_bytes_and_runs_nothing(setup: Setup, options: Json) -> None:
    first = await setup.ask(**options)
    calls = setup.calls
    again = await setup.ask(**options)

    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    assert setup.calls == calls == options.get("n", 1)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    for name in ("content-type", "content-length", "cache-control", "x-accel-buffering"):
        assert again.headers.get(name) == first.headers.get(name)


async def test_the_sdk_reads_a_repeat_as_it_reads_an_answer(setup: Setup) -> None:
    async def answer() -> str:
        stream = await setup.runtime.openai.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "one two three"}],
            stream=True,
            extra_headers={"Idempotency-Key": "k-1"},
        )
        chunks = [chunk async for chunk in stream]
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert [await answer() for _ in range(3)] == ["You said: one two three"] * 3
    assert setup.calls == 1


async def test_whoever_has_seen_the_end_of_an_answer_finds_it_kept(setup: Setup) -> None:
    for key in map(str, range(10)):
        body, headers = asking("Hi", stream=True), {"Idempotency-Key": key}
        async with setup.runtime.http.stream("POST", CHAT, json=body, headers=headers) as first:
            async for line in first.aiter_lines():
                if line == "data: [DONE]":
                    again = await setup.ask("Hi", key, stream=True)
                    assert again.headers["Idempotent-Replayed"] == "true"
                    break
            else:
                pytest.fail("the stream had no end")


@pytest.mark.parametrize("stream", [False, True])
async def test_fifty_at_once_make_one_run(setup: Setup, stream: bool) -> None:
    answers = await asyncio.gather(*(setup.ask(SLOW, stream=stream) for _ in range(50)))

    assert setup.calls == 1
    told = [answer for answer in answers if answer.status_code == 409]
    assert told
    for answer in told:
        assert code(answer) == "idempotency_key_in_use"
        assert answer.headers["Retry-After"] == "1"
        assert "x-should-retry" not in answer.headers
    (first,) = {answer.content for answer in answers if answer.status_code == 200}
    assert (await setup.ask(SLOW, stream=stream)).content == first


async def test_the_sdk_waits_for_the_answer_of_the_first(setup: Setup) -> None:
    async def answer() -> str:
        found = await setup.runtime.openai.with_options(max_retries=3).chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": SLOW}],
            extra_headers={"Idempotency-Key": "k-1"},
        )
        return found.id

    assert len(set(await asyncio.gather(answer(), answer(), answer()))) == 1
    assert setup.calls == 1


async def test_another_request_under_the_key_is_refused_even_in_flight(setup: Setup) -> None:
    first = await setup.begun(asyncio.create_task(setup.ask(SLOW)))
    others = [await setup.ask(SLOW, temperature=0.5), await setup.send("/v1/agents", AGENT)]
    assert (await first).status_code == 200
    others += [
        await setup.ask(SLOW + " "),
        await setup.send(f"{CHAT}?x=1", asking(SLOW)),
        await setup.send("/v1/agents", AGENT),
        await setup.send("/v1/keys", asking(SLOW)),
    ]

    for refused in others:
        assert (refused.status_code, code(refused)) == (422, "idempotency_key_reused")
        assert refused.headers["x-should-retry"] == "false"
    assert setup.calls == 1
    with pytest.raises(openai.UnprocessableEntityError, match="key of its own"):
        await setup.runtime.openai.with_options(max_retries=2).chat.completions.create(
            model="assistant", messages=[], extra_headers={"Idempotency-Key": "k-1"}
        )


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256])
async def test_a_key_that_is_none_is_refused(setup: Setup, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    refused = await setup.runtime.http.post(CHAT, json=asking("Hi"), headers=headers)

    assert (refused.status_code, code(refused)) == (400, "invalid_value")
    assert refused.json()["error"]["param"] == "Idempotency-Key"


async def test_two_different_keys_are_refused_and_the_longest_is_taken(setup: Setup) -> None:
    two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await setup.runtime.http.post(CHAT, json=asking("Hi"), headers=two)).status_code == 400
    assert (await setup.ask(key="~" * 255)).status_code == 200
    assert (await setup.ask(key="~" * 255)).headers["Idempotent-Replayed"] == "true"


async def test_a_refusal_is_not_kept(setup: Setup) -> None:
    setup.upstream.script(faults.status(503))
    failed = await setup.ask()
    assert failed.status_code == 502
    assert (await setup.ask(temperature=99)).status_code == 400

    answer = await setup.ask()
    assert answer.status_code == 200
    assert "Idempotent-Replayed" not in answer.headers


async def test_a_body_that_is_too_large_is_refused_as_ever(setup: Setup) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b" " * 1_000_000

    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    refused = await setup.runtime.http.post(CHAT, content=pieces(), headers=headers)
    assert (refused.status_code, code(refused)) == (413, "payload_too_large")
    assert (await setup.ask()).status_code == 200


@pytest.mark.parametrize("fault", [faults.cut(), faults.error_event({"message": "overloaded"})])
async def test_a_stream_that_ends_with_an_error_is_not_kept(setup: Setup, fault: Any) -> None:  # noqa: ANN401 - a behaviour
    setup.upstream.script(fault)
    broken = await setup.ask(stream=True)
    assert broken.status_code == 200
    assert "[DONE]" not in broken.text

    answer = await setup.ask(stream=True)
    assert "[DONE]" in answer.text
    assert "Idempotent-Replayed" not in answer.headers


async def test_what_a_platform_route_did_is_done_once(setup: Setup) -> None:
    made = [await setup.send("/v1/agents", AGENT, "make") for _ in range(3)]
    assert {each.json()["id"] for each in made} == {made[0].json()["id"]}
    assert {each.headers.get("etag") for each in made} == {made[0].headers["etag"]}
    path = f"/v1/agents/{made[0].json()['id']}/submit"
    assert [(await setup.send(path, key="go")).status_code for _ in range(3)] == [200] * 3
    assert (await setup.send(path, key="again")).status_code == 409

    agents = (await setup.runtime.get("/v1/agents"))["data"]
    assert [agent["name"] for agent in agents].count("Bot") == 1


async def test_a_large_body_is_told_apart_by_its_last_byte(setup: Setup) -> None:
    async def send(blanks: int) -> httpx.Response:
        body = json.dumps(asking("Hi")).encode() + b" " * blanks
        headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
        return await setup.runtime.http.post(CHAT, content=body, headers=headers)

    first = await send(9_000_000)
    assert first.status_code == 200

    assert (await send(9_000_000)).content == first.content
    assert (await send(9_000_001)).status_code == 422


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_too_large_is_not_repeated_nor_made_again(
    setup: Setup, stream: bool
) -> None:
    text = "words:20000"
    first = await setup.ask(text, stream=stream)
    assert first.status_code == 200
    assert len(first.content) > 100_000

    again = await setup.ask(text, stream=stream)
    assert (again.status_code, code(again)) == (409, "idempotent_answer_not_kept")
    assert again.headers["x-should-retry"] == "false"
    assert setup.calls == 1


async def test_the_callers_key_goes_no_further(setup: Setup) -> None:
    await setup.ask(key="of-the-caller")

    (call,) = setup.upstream.requests
    assert "idempotency-key" not in call.headers
    assert "of-the-caller" not in str(call)


async def test_the_answer_arrives_although_it_can_not_be_kept(
    tmp_path: Path,
) -> None:
    async def locked(exchange: Exchange) -> None:
        # Whoever writes in this loop just now has to come to its end.
        await asyncio.to_thread(database.execute, "BEGIN IMMEDIATE")
        await exchange.respond(200, json.dumps(WHOLE).encode())

    async with (
        FakeUpstream(locked) as upstream,
        serving(
            tmp_path,
            openai_base_url=upstream.base_url,
            openai_api_key="sk-test",
            idempotency_lease_s=1,
        ) as runtime,
    ):
        database = sqlite3.connect(
            tmp_path / "var" / "runtime.db", isolation_level=None, check_same_thread=False
        )
        setup = Setup(runtime, upstream)
        since = monotonic()
        answer = await setup.ask()
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"] == "Here"
        assert monotonic() - since < 7
        database.close()

        again = await setup.ask()
        assert again.status_code == 200
        assert setup.calls == 2


WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "fake",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Here"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def token(user: str, project: str = "default", role: str = "admin") -> dict[str, str]:
    claims = {"sub": user, "project_id": project, "roles": [role], "exp": time() + 600}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}


async def test_callers_with_the_same_key_do_not_meet(tmp_path: Path) -> None:
    async with serving(tmp_path, jwt_secret=SECRET) as runtime:
        body = {"name": "CI", "scopes": ["models"]}

        async def make(**headers: str) -> httpx.Response:
            named = {"Idempotency-Key": "k-1", **headers}
            return await runtime.http.post("/v1/keys", json=body, headers=named)

        unknown = await make()
        first = await make(**token("ann"))
        again = await make(**token("ann"))
        others = [await make(**token("bob")), await make(**token("ann", "elsewhere"))]
        lesser = await make(**token("ann", role="viewer"))

        assert (unknown.status_code, first.status_code) == (401, 201)
        assert again.json() == first.json()
        assert [other.status_code for other in others] == [201, 201]
        keys = {answer.json()["key"] for answer in (first, *others)}
        assert len(keys) == 3
        assert (lesser.status_code, code(lesser)) == (422, "idempotency_key_reused")
        assert (await make()).status_code == 401


async def test_every_post_takes_the_key_and_says_so(setup: Setup) -> None:
    document = await setup.runtime.get("/openapi.json")
    posts = [path["post"] for path in document["paths"].values() if "post" in path]

    assert len(posts) >= 10
    for operation in posts:
        names = [parameter["name"] for parameter in operation["parameters"]]
        assert names.count("Idempotency-Key") == 1
        for status in ("409", "422"):
            told = operation["responses"][status]
            assert "Idempotency-Key" in told["description"]
            content = told["content"]["application/json"]
            assert "HTTPValidationError" not in str(content)
            assert "example" in content


async def test_an_answer_outlasts_a_restart_and_is_not_to_be_read_in_the_file(
    tmp_path: Path,
) -> None:
    canary = "canary-7f3a"
    headers = {"Idempotency-Key": "k-1"}
    answers = []
    for _ in range(2):
        async with (
            process(tmp_path) as runtime,
            httpx.AsyncClient(base_url=runtime.url, timeout=20) as client,
        ):
            answers.append(await client.post(CHAT, json=asking(canary), headers=headers))
            runtime.signal()
            assert await runtime.ended() == 0

    assert canary in answers[0].text
    assert answers[1].content == answers[0].content
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    for file in (tmp_path / "var").glob("runtime.db*"):
        assert canary.encode() not in file.read_bytes()


async def test_the_key_of_a_killed_process_is_free_after_its_lease(tmp_path: Path) -> None:
    headers = {"Idempotency-Key": "k-1"}
    async with FakeUpstream() as upstream:
        variables = {
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": "sk-test",
            "RUNTIME_IDEMPOTENCY_LEASE_S": "3",
        }
        upstream.script(faults.slow_headers)
        async with (
            process(tmp_path, **variables) as runtime,
            httpx.AsyncClient(base_url=runtime.url, timeout=20) as client,
        ):
            asked = asyncio.create_task(client.post(CHAT, json=asking("Hi"), headers=headers))
            await upstream.arrived.wait()
            await asyncio.sleep(4)  # longer than a lease that nobody renews
            refused = await client.post(CHAT, json=asking("Hi"), headers=headers)
            assert refused.status_code == 409
            runtime.signal(9)  # type: ignore[arg-type]
            with pytest.raises(httpx.TransportError):
                await asked
        async with (
            process(tmp_path, **variables) as runtime,
            httpx.AsyncClient(base_url=runtime.url, timeout=20) as client,
        ):
            since = monotonic()
            statuses = []
            while (
                answer := await client.post(CHAT, json=asking("Hi"), headers=headers)
            ).status_code == 409:
                statuses.append(answer.status_code)
                await asyncio.sleep(0.2)
            assert answer.status_code == 200
            assert monotonic() - since < 3 + 2
        assert len(upstream.requests) == 2


async def test_fifty_at_once_over_two_replicas_make_one_run(
    tmp_path: Path, fresh_postgres_url: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with FakeUpstream() as upstream:
        variables = {
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": "sk-test",
            "RUNTIME_DATABASE_URL": fresh_postgres_url,
            "RUNTIME_SECRET_KEY": "one-for-both-of-them",
        }
        async with (
            process(tmp_path / "a", **variables) as first,
            process(tmp_path / "b", **variables) as second,
            httpx.AsyncClient(timeout=30) as client,
        ):

            async def ask(number: int, key: str) -> httpx.Response:
                url = (first, second)[number % 2].url
                headers = {"Idempotency-Key": key}
                return await client.post(f"{url}{CHAT}", json=asking(SLOW), headers=headers)

            for key in ("k-1", "k-2", "k-3"):
                answers = await asyncio.gather(*(ask(number, key) for number in range(50)))
                replayed = [await ask(number, key) for number in range(2)]
                (answer,) = {each.content for each in replayed}
                assert {each.status_code for each in answers} == {200, 409}
                assert {each.content for each in answers if each.status_code == 200} == {answer}
            assert len(upstream.requests) == 3
