"""Credentials over real sockets: the life of a key, JWTs, and what a start is refused for."""

import asyncio
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runtime.infrastructure.identity import jwks
from tests.e2e.server import Json, Served, serving
from tests.postgres import fresh_database

ROOT = Path(__file__).parents[2]
TOKEN = "correct-horse-battery"
SECRET_KEY = "what-keys-are-hashed-with"
HELLO = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}
WITHIN_S = 5.0


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def status(served: Served, credential: str, path: str = "/v1/models") -> int:
    """As seen by somebody who carries only this."""
    async with httpx.AsyncClient(base_url=served.url) as http:
        return (await http.get(path, headers=bearer(credential))).status_code


# API keys


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    with fresh_database() as url:
        yield url


@pytest.fixture
async def replicas(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Served, Served]]:
    """Two servers on one database."""
    shared: dict[str, Any] = {"database_url": database_url, "secret_key": SECRET_KEY}
    async with (
        serving(tmp_path, token=TOKEN, **shared) as one,
        serving(tmp_path, token=TOKEN, **shared) as other,
    ):
        yield one, other


def found_in(folder: Path, secret: bytes) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if secret in path.read_bytes()]


async def make(served: Served, **fields: Any) -> Json:  # noqa: ANN401 - a JSON body
    body = {"name": "CI", "user_id": "ann", "roles": ["editor"], **fields}
    return await served.post("/v1/keys", body, status=201)


async def test_a_key_is_shown_once_and_opens_every_replica(
    replicas: tuple[Served, Served], tmp_path: Path
) -> None:
    one, other = replicas
    made = await make(one)
    key = made["key"]

    assert re.fullmatch(r"ar_[\w-]{12}_[\w-]{43}", key)
    assert key.startswith(f"ar_{made['prefix']}_")
    for served in replicas:
        assert await status(served, key) == 200
        listed = await served.http.get("/v1/keys")
        assert made["id"] in listed.text
        assert key not in listed.text
        assert key[-43:] not in listed.text
    assert not await asyncio.to_thread(found_in, tmp_path, key[-43:].encode())
    assert (await other.get("/v1/keys"))["data"][0]["user_id"] == "ann"


async def test_a_revoked_key_is_refused_at_once_here_and_within_5_s_elsewhere(
    replicas: tuple[Served, Served],
) -> None:
    one, other = replicas
    made = await make(one)
    for served in replicas:
        assert await status(served, made["key"]) == 200

    revoked = await one.http.delete(f"/v1/keys/{made['id']}")
    since = time.monotonic()
    assert revoked.json()["revoked_at"]
    assert await status(one, made["key"]) == 401
    while await status(other, made["key"]) == 200:
        assert time.monotonic() - since < WITHIN_S
        await asyncio.sleep(0.05)
    again = await one.http.delete(f"/v1/keys/{made['id']}")
    assert again.json()["revoked_at"] == revoked.json()["revoked_at"]


async def test_an_expired_key_is_refused(replicas: tuple[Served, Served]) -> None:
    one, _ = replicas
    lasting, brief = await make(one), await make(one, expires_in_s=1)

    while await status(one, brief["key"]) == 200:
        assert datetime.now(UTC) < datetime.fromisoformat(brief["expires_at"]) + timedelta(
            seconds=WITHIN_S
        )
        await asyncio.sleep(0.05)
    assert datetime.now(UTC) >= datetime.fromisoformat(brief["expires_at"])
    assert await status(one, lasting["key"]) == 200


async def test_what_is_not_exactly_a_key_is_refused_with_one_answer(
    replicas: tuple[Served, Served],
) -> None:
    one, _ = replicas
    key, other = (await make(one))["key"], (await make(one))["key"]
    wrong = [key[:-1], f"{key}x", key[:15], f"{other[:15]}{key[15:]}", f"ar_{'x' * 12}{key[15:]}"]

    answers = set()
    async with httpx.AsyncClient(base_url=one.url) as http:
        for each in wrong:
            response = await http.get("/v1/models", headers=bearer(each))
            answers.add((response.status_code, response.text))
    assert len(answers) == 1
    assert answers.pop()[0] == 401


async def test_two_carriers_agree_or_nobody_gets_in(replicas: tuple[Served, Served]) -> None:
    one, _ = replicas
    key = (await make(one))["key"]
    async with httpx.AsyncClient(base_url=one.url) as http:
        for second, expected in ((key, 200), (TOKEN, 401), ("x", 401)):
            headers = {**bearer(key), "X-Runtime-Token": second}
            response = await http.get("/v1/models", headers=headers)
            assert response.status_code == expected


async def test_scopes_narrow_a_key_at_every_route(replicas: tuple[Served, Served]) -> None:
    one, _ = replicas
    routes = {
        "models": "/v1/models",
        "agents:read": "/v1/agents",
        "runs:read": "/v1/runs",
        "keys": "/v1/keys",
        "providers": "/v1/providers",
        "system": "/v1/health",
    }
    for scope, route in routes.items():
        key = (await make(one, scopes=[scope]))["key"]
        for path in {*routes.values(), "/v1/templates", "/v1/schema"}:
            allowed = {route}
            if scope == "agents:read":
                allowed.add("/v1/templates")
            if scope == "system":
                allowed.add("/v1/schema")
            assert await status(one, key, path) == (200 if path in allowed else 403), (scope, path)


async def test_a_run_belongs_to_the_key_s_owner(replicas: tuple[Served, Served]) -> None:
    one, _ = replicas
    key = (await make(one))["key"]
    async with httpx.AsyncClient(base_url=one.url, headers=bearer(key)) as http:
        call = {**HELLO, "metadata": {"user_id": "somebody-else"}}
        assert (await http.post("/v1/chat/completions", json=call)).status_code == 200
        (run,) = (await http.get("/v1/runs")).json()["data"]
    assert run["owner_id"] == "ann"


# JWTs

ISSUER, AUDIENCE = "https://issuer.test", "agent-runtime"
SHARED = "a-secret-that-is-long-enough-for-every-algorithm-that-is-made-with-one"
RSA = rsa.generate_private_key(65537, 2048)
NEXT_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def claims(**changed: object) -> dict[str, object]:
    whole: dict[str, object] = {
        "sub": "ann",
        "roles": ["editor", "something-else"],
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": int(time.time()) + 60,
        **changed,
    }
    return {name: value for name, value in whole.items() if value is not None}


def part(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str) -> Json:
    signer: Any = (
        jwt.algorithms.RSAAlgorithm
        if isinstance(key, rsa.RSAPrivateKey)
        else jwt.algorithms.ECAlgorithm
    )
    found: Json = signer.to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": kid, "use": "sig"}


def by_rsa(kid: str | None = "one", key: Any = RSA, **changed: object) -> str:  # noqa: ANN401
    headers = {"kid": kid} if kid else {}
    return jwt.encode(claims(**changed), key, algorithm="RS256", headers=headers)


def by_secret(secret: str = SHARED, algorithm: str = "HS256", **changed: object) -> str:
    return jwt.encode(claims(**changed), secret, algorithm=algorithm)


def signed(header: Json, secret: bytes) -> str:
    """By HMAC-SHA256, whatever libraries think of the header or of the secret."""
    text = f"{part(header)}.{part(claims())}"
    signature = hmac.digest(secret, text.encode(), "sha256")
    return f"{text}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.fixture
async def by_shared_secret(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(
        tmp_path, jwt_secret=SHARED, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_leeway_s=0
    ) as served:
        yield served


class Issuer:
    """Publishes a key set on a port of its own."""

    def __init__(self) -> None:
        self.keys = [public(RSA, "one"), public(EC, "ec")]
        self.asked = 0
        self.body: bytes | None = None
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = issuer.body
                if body is None:
                    body = json.dumps({"keys": issuer.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
async def by_key_set(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Served]:
    async with serving(
        tmp_path, jwt_jwks_url=issuer.url, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_leeway_s=0
    ) as served:
        yield served


async def test_a_jwt_is_its_user_with_the_roles_it_names(by_shared_secret: Served) -> None:
    served = by_shared_secret
    draft = {"name": "Bot", "template_id": "langgraph-simple-test"}
    async with httpx.AsyncClient(base_url=served.url, headers=bearer(by_secret())) as http:
        made = await http.post("/v1/agents", json=draft)
        assert (made.status_code, made.json()["owner_id"]) == (201, "ann")
        assert (await http.post("/v1/agents", json={**draft, "id": "x"})).status_code == 403
    assert await status(served, signed({"alg": "HS256"}, SHARED.encode())) == 200
    for changed, expected in (
        ({"roles": None}, 403),
        ({"roles": "viewer"}, 403),
        ({"roles": "editor viewer"}, 409),
        ({"roles": ["admin"]}, 409),
        ({"roles": ["admin"], "project_id": "another"}, 201),
        ({"roles": {"admin": True}}, 403),
    ):
        headers = bearer(by_secret(**changed))
        async with httpx.AsyncClient(base_url=served.url, headers=headers) as http:
            response = await http.post("/v1/agents", json=draft)
        assert response.status_code == expected, changed


NOW = int(time.time())
FORGED: dict[str, Callable[[], str]] = {
    "no algorithm": lambda: f"{part({'alg': 'none'})}.{part(claims())}.",
    "no algorithm, spelled oddly": lambda: f"{part({'alg': 'nOnE'})}.{part(claims())}.",
    "another secret": lambda: by_secret("another-secret-that-is-long-enough-too"),
    "another algorithm": lambda: by_secret(algorithm="HS512"),
    "another issuer": lambda: by_secret(iss="https://evil.test"),
    "no issuer": lambda: by_secret(iss=None),
    "another audience": lambda: by_secret(aud="another-service"),
    "no audience": lambda: by_secret(aud=None),
    "expired": lambda: by_secret(exp=NOW - 1),
    "never expires": lambda: by_secret(exp=None),
    "expires at infinity": lambda: by_secret(exp=1e308),
    "expires in words": lambda: by_secret(exp="tomorrow"),
    "not yet valid": lambda: by_secret(nbf=NOW + 3_600),
    "nobody": lambda: by_secret(sub=None),
    "an empty user": lambda: by_secret(sub=""),
    "a user with a NUL": lambda: by_secret(sub="a\x00"),
    "a very long user": lambda: by_secret(sub="a" * 257),
    "a project that is a number": lambda: by_secret(project_id=5),
    "unknown extension": lambda: jwt.encode(
        claims(), SHARED, "HS256", headers={"crit": ["exp-2"], "exp-2": 1}
    ),
    "an extension that libraries know": lambda: signed(
        {"alg": "HS256", "crit": ["b64"], "b64": True}, SHARED.encode()
    ),
    "a token in parts": lambda: by_secret().rpartition(".")[0],
    "a changed payload": lambda: by_secret().replace(
        by_secret().split(".")[1], part(claims(sub="root"))
    ),
    "garbage": lambda: "a.b.c",
    "an array": lambda: f"{part([])}.{part([])}.x",
    "a deep one": lambda: urlsafe_b64encode(b"[" * 9_000).decode() + ".e30.x",
    "an endless one": lambda: f"{'a' * 20_000}.e30.x",
}


async def test_forged_and_stale_jwts_are_refused(by_shared_secret: Served) -> None:
    taken = [
        name for name, forge in FORGED.items() if await status(by_shared_secret, forge()) != 401
    ]
    assert taken == []


async def test_keys_of_an_issuer_are_read_when_needed(by_key_set: Served, issuer: Issuer) -> None:
    assert issuer.asked == 0
    by_ec = jwt.encode(claims(), EC, "ES256", headers={"kid": "ec"})
    for token in (by_rsa(), by_ec, by_rsa(kid=None), by_rsa(sub="ben")):
        assert await status(by_key_set, token) == 200
    assert issuer.asked == 1


async def test_a_public_key_is_no_secret(by_key_set: Served) -> None:
    """The classic confusion: HS256 over the bytes of the RSA key that everybody knows."""
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), json.dumps(public(RSA, "one")).encode()):
        assert await status(by_key_set, signed({"alg": "HS256", "kid": "one"}, secret)) == 401


async def test_a_key_of_another_kind_or_name_is_refused(by_key_set: Served) -> None:
    by_ec_as_rsa = jwt.encode(claims(), EC, "ES256", headers={"kid": "one"})
    inlined = jwt.encode(
        claims(), NEXT_RSA, "RS256", headers={"jwk": public(NEXT_RSA, "mine"), "kid": "mine"}
    )
    pss = jwt.encode(claims(), RSA, "PS256", headers={"kid": "one"})
    for token in (
        by_rsa(kid="nobody"),
        by_rsa(key=NEXT_RSA),
        by_rsa(kid=None, key=NEXT_RSA),
        by_ec_as_rsa,
        inlined,
        pss,
    ):
        assert await status(by_key_set, token) == 401


async def test_a_rotated_key_is_found_and_a_withdrawn_one_is_not(
    by_key_set: Served, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "AGAIN_AFTER_S", 0)
    assert await status(by_key_set, by_rsa()) == 200

    issuer.keys = [public(NEXT_RSA, "two")]
    assert await status(by_key_set, by_rsa(kid="two", key=NEXT_RSA)) == 200
    assert await status(by_key_set, by_rsa(sub="ben")) == 401


@pytest.mark.parametrize("body", [b"", b"[]", b'{"keys": 5}', b"x" * 1_000_001])
async def test_an_issuer_that_answers_nonsense_is_a_503(
    by_key_set: Served, issuer: Issuer, body: bytes
) -> None:
    issuer.body = body
    async with httpx.AsyncClient(base_url=by_key_set.url) as http:
        response = await http.get("/v1/models", headers=bearer(by_rsa()))
    assert response.status_code == 503
    assert response.headers["Retry-After"]


async def test_a_key_set_with_secrets_in_it_makes_no_secret_of_them(
    by_key_set: Served, issuer: Issuer
) -> None:
    issuer.keys = [{"kty": "oct", "kid": "oct", "k": part("s" * 40)}, {"kty": "RSA"}, "nonsense"]  # type: ignore[list-item]
    token = jwt.encode(claims(), "s" * 40, "HS256", headers={"kid": "oct"})
    assert await status(by_key_set, token) == 401
    assert await status(by_key_set, by_rsa()) == 401


async def test_claims_reach_the_template(tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "whoami.py").write_text(WHO_AM_I)
    async with serving(
        tmp_path,
        template_dirs=[folder],
        jwt_jwks_file=_file(tmp_path / "keys.json", {"keys": [public(RSA, "one")]}),
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        jwt_roles_claim="realm_access.roles",
    ) as served:
        token = by_rsa(realm_access={"roles": ["admin"]}, department="sales")
        async with httpx.AsyncClient(base_url=served.url, headers=bearer(token)) as http:
            agent = {"name": "Who", "template_id": "who-am-i"}
            made = (await http.post("/v1/agents", json=agent)).json()
            call = {**HELLO, "model": made["id"]}
            answer = (await http.post("/v1/chat/completions", json=call)).json()
    assert answer["choices"][0]["message"]["content"] == "ann of sales"


WHO_AM_I = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from runtime.templates.langgraph import LangGraphTemplate
from runtime.templates.scope import current_run


class WhoAmI(LangGraphTemplate):
    template_id, template_name, template_version = "who-am-i", "Who am I", "1.0.0"

    class Config(BaseModel):
        pass

    def build_graph(self):
        return StateGraph(MessagesState).add_node(self.answer).add_edge(START, "answer")

    async def answer(self, state):
        caller = current_run().input
        return {"messages": [AIMessage(f"{caller.user_id} of {caller.claims['department']}")]}
"""


def _file(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


# The command


class Command:
    """`python -m runtime.cli.main …` in a folder, with nothing but what a test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables}
        return subprocess.Popen(
            [sys.executable, "-m", "runtime.cli.main", *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        with self.start(*arguments, **variables) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def done(self, *arguments: str, **variables: str) -> str:
        code, out, err = self.run(*arguments, **variables)
        assert code == 0, err
        return out.strip()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "0.0.0.0 is not loopback"),
        ({"RUNTIME_TOKEN": ""}, "RUNTIME_TOKEN"),
        ({"RUNTIME_TOKEN": "hunter2"}, "RUNTIME_TOKEN"),
        ({"RUNTIME_TOKEN": TOKEN, "RUNTIME_SECRET_KEY": "hunter2"}, "RUNTIME_SECRET_KEY"),
        ({"RUNTIME_TOKEN": TOKEN, "RUNTIME_SECRET_KEY": ""}, "RUNTIME_SECRET_KEY"),
        ({"RUNTIME_JWT_SECRET": "hunter2"}, "RUNTIME_JWT_SECRET"),
        ({"RUNTIME_JWT_SECRET": ""}, "RUNTIME_JWT_SECRET"),
        ({"RUNTIME_TOKEN": TOKEN, "RUNTIME_JWT_SECRET": "x" * 31}, "RUNTIME_JWT_SECRET"),
    ],
)
def test_a_start_that_would_let_anybody_in_is_refused(
    command: Command, variables: dict[str, str], told: str
) -> None:
    code, out, err = command.run("serve", "--host", "0.0.0.0", "--port", "0", **variables)

    assert (code, out) == (2, "")
    assert told in err
    assert "hunter2" not in err
    assert "Traceback" not in err


def test_a_key_file_that_others_can_read_stops_the_start(command: Command) -> None:
    command.done("keys", "create", "me")
    (command.folder / "var" / "secret.key").chmod(0o644)

    code, _, err = command.run("serve", "--port", "0", RUNTIME_TOKEN=TOKEN)

    assert code == 2
    assert "is open to other users" in err


def test_the_first_key_is_made_before_any_server_and_lets_one_start(command: Command) -> None:
    key = command.done("keys", "create", "me", "--role", "admin", "--user", "ann")
    process = command.start("serve", "--host", "0.0.0.0", "--port", "0")
    assert process.stdout
    try:
        ready = process.stdout.readline().split()
        assert ready, process.communicate()[1]
        for headers, expected in ((bearer(key), 200), ({}, 401), (bearer("x"), 401)):
            assert httpx.get(f"{ready[5]}/v1/keys", headers=headers).status_code == expected
        (shown,) = json.loads(command.done("keys", "list", "--json"))
        assert (shown["user_id"], shown["roles"], shown["state"]) == ("ann", ["admin"], "live")

        command.done("keys", "revoke", shown["id"])
        since = time.monotonic()
        while httpx.get(f"{ready[5]}/v1/keys", headers=bearer(key)).status_code != 401:
            assert time.monotonic() - since < WITHIN_S
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert key[-43:] not in log
    assert command.run("serve", "--host", "0.0.0.0", "--port", "0")[0] == 2


def test_an_expired_key_lets_no_server_start(command: Command) -> None:
    made = json.loads(command.done("keys", "create", "me", "--expires", "1m", "--json"))
    assert made["key"].startswith(f"ar_{made['prefix']}_")
    assert made["expires_at"] > made["created_at"]
    for wrong in (["--expires", "soon"], ["--scope", "everything"]):
        code, out, _ = command.run("keys", "create", "me", *wrong)
        assert (code, out) == (2, "")
    assert command.run("keys", "revoke", "key_404")[0] == 1
