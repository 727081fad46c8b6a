"""Where the runtime calls and where it doesn't: a real server, and a DNS that lies on demand."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from runtime.domain.errors import EgressRefused, InvalidValue, UpstreamFailed, UpstreamTimeout
from runtime.infrastructure.egress import Credential, EgressClient, EgressPolicy
from tests.upstream import Exchange, FakeUpstream
from tests.upstream.faults import status
from tests.upstream.wire import Behaviour

KEY = "a-key-for-one-host"
HERE = "127.0.0.1"


@dataclass
class Names(AbstractResolver):
    """Each name's answers, one for each time it is asked; the last one stays."""

    answers: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        known = self.answers.get(host)
        if not known:
            raise OSError("no such name")
        found = known.pop(0) if len(known) > 1 else known[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None: ...


@dataclass
class World:
    """A server on 127.0.0.1, which every name ending in `.test` leads to."""

    upstream: FakeUpstream
    names: Names
    made: list[EgressClient] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.upstream.base_url.rsplit(":", 1)[1].removesuffix("/v1"))

    def url(self, host: str = HERE, path: str = "/page") -> str:
        return f"http://{host}:{self.port}{path}"

    def client(self, *allowed: str, own: Sequence[str] = ()) -> EgressClient:
        policy = EgressPolicy(allowed, own=own)
        self.made.append(EgressClient(policy, resolver=lambda: self.names))
        return self.made[-1]

    def leads(self, name: str, *answers: Sequence[str]) -> None:
        self.names.answers[name] = list(answers)

    @property
    def headers(self) -> list[dict[str, str]]:
        return [request.headers for request in self.upstream.requests]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeUpstream() as upstream:
        made = World(upstream, Names())
        made.leads("a.test", [HERE])
        made.leads("b.test", [HERE])
        yield made
        for client in made.made:
            await client.aclose()


def says(body: bytes, **headers: str) -> Behaviour:
    async def answer(exchange: Exchange) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await exchange.respond(200, body, named)

    return answer


def to(location: str, code: int = 302) -> Behaviour:
    return status(code, b"", {"Location": location})


LOCAL = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0X7F.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "１２７。０。０。１",  # noqa: RUF001 - full-width digits, ideographic stops
    "①②⑦.0.0.1",
    "0.0.0.0",
    "0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[fec0::1]",
    "[ff02::1]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("host", LOCAL)
async def test_no_spelling_of_a_closed_address_is_called(world: World, host: str) -> None:
    with pytest.raises(EgressRefused, match="RUNTIME_ALLOWED_EGRESS"):
        await world.client().fetch(world.url(host))

    assert world.upstream.connections_made == 0
    assert world.names.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:7f00:1::",
        "fe80::1",
        "fe80::1%2",
        "fd00:ec2::254",
        "ff02::1",
    ],
)
async def test_no_name_that_leads_to_a_closed_address_is_called(world: World, address: str) -> None:
    world.leads("trap.test", [address])
    with pytest.raises(EgressRefused, match=r"'trap\.test'") as refused:
        await world.client().fetch(world.url("trap.test"))

    assert world.upstream.connections_made == 0
    assert address not in str(refused.value)


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "134744072", "0x8.0x8.0x8.0x8", "[2606:4700::1]", "[64:ff9b::8.8.8.8]"]
)
def test_public_addresses_are_called_however_they_are_written(host: str) -> None:
    target = EgressPolicy().check(f"https://{host}/")
    assert target.host in ("8.8.8.8", "2606:4700::1", "64:ff9b::808:808")
    assert target.url.host == target.host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/page",
        "page",
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "data:text/plain,x",
        "unix:///run/docker.sock",
        "http://",
        "http:///page",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://:password@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com /",
        "http://exa\tmple.com/",
        "http://example.com/\r\nX-Evil: 1",
        "http://a..b/",
        "http://127.0.0.%31/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
        "http://1.2.3.4.5/",
        "http://example.256/",
        "http://4294967296/",
        "http://08.8.8.8/",
        f"http://{'a.' * 200}com/",
        f"http://example.com/{'a' * 9000}",
    ],
)
def test_what_is_no_plain_http_address_is_refused(url: str) -> None:
    with pytest.raises(EgressRefused) as refused:
        EgressPolicy().check(url)
    assert "password" not in str(refused.value)


@pytest.mark.parametrize("port", [22, 25, 445, 3306, 5432, 6379, 6667, 11211])
def test_other_services_ports_have_to_be_named(port: int) -> None:
    url = f"http://example.com:{port}/"
    for policy in (EgressPolicy(), EgressPolicy(["example.com"])):
        with pytest.raises(EgressRefused, match=f"example.com:{port}"):
            policy.check(url)
    assert EgressPolicy([f"example.com:{port}"]).check(url).port == port


@pytest.mark.parametrize("port", [80, 443, 8000, 8080, 8443, 11434])
def test_the_web_s_ports_are_open(port: int) -> None:
    assert EgressPolicy().check(f"http://example.com:{port}/").port == port


ALLOWED: list[tuple[str, str]] = [
    ("a.test", "a.test"),
    ("A.Test.", "a.test"),
    ("a.test:{port}", "a.test"),
    ("*.test", "a.test"),
    ("*.test:{port}", "a.test"),
    ("127.0.0.0/8", "a.test"),
    ("127.0.0.1", "127.1"),
    ("127.0.0.1:{port}", "127.0.0.1"),
    ("a.test", "A.TEST."),
]


@pytest.mark.parametrize(("entry", "host"), ALLOWED)
async def test_an_operator_can_allow_a_host(world: World, entry: str, host: str) -> None:
    client = world.client(entry.format(port=world.port))
    world.upstream.script(says(b"hello"))

    assert (await client.fetch(world.url(host))).body == b"hello"


@pytest.mark.parametrize(
    "entry", ["b.test", "test", "*.a.test", "xa.test", "a.test:1", "10.0.0.0/8", "127.0.0.1:1"]
)
async def test_allowing_one_host_allows_no_other(world: World, entry: str) -> None:
    with pytest.raises(EgressRefused):
        await world.client(entry).fetch(world.url("a.test"))
    assert world.upstream.connections_made == 0


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "fe80::1", "0.0.0.0"])
async def test_a_name_does_not_open_metadata_addresses(world: World, address: str) -> None:
    world.leads("a.test", [address])
    with pytest.raises(EgressRefused):
        await world.client("a.test", "*.test").fetch(world.url("a.test"))


@pytest.mark.parametrize("entry", ["*", "", "a b", "http://a.test", "a.test/path", "u@a.test"])
def test_an_entry_that_is_not_understood_is_refused(entry: str) -> None:
    with pytest.raises(InvalidValue, match="RUNTIME_ALLOWED_EGRESS"):
        EgressPolicy([entry])


async def test_the_operator_s_own_address_is_called_as_it_stands(world: World) -> None:
    client = world.client(own=[world.url(path="/v1")])
    world.upstream.script(says(b"hello"))

    assert (await client.fetch(world.url())).body == b"hello"
    with pytest.raises(EgressRefused):
        await client.fetch("http://127.0.0.1:1/")


async def test_a_name_is_resolved_once_and_the_connection_goes_there(world: World) -> None:
    world.leads("rebind.test", [HERE], ["127.0.0.2"])
    client = world.client("127.0.0.1/32")
    world.upstream.script(says(b"hello"))

    assert (await client.fetch(world.url("rebind.test"))).body == b"hello"
    assert world.names.asked == ["rebind.test"]


async def test_a_name_that_changes_its_mind_is_checked_again(world: World) -> None:
    world.leads("rebind.test", [HERE], ["127.0.0.2"])
    world.upstream.script(says(b"hello"))
    await world.client("127.0.0.1/32").fetch(world.url("rebind.test"))

    with pytest.raises(EgressRefused):
        await world.client("127.0.0.1/32").fetch(world.url("rebind.test"))


async def test_of_several_addresses_only_the_open_ones_are_called(world: World) -> None:
    world.leads("many.test", ["10.0.0.1", "169.254.169.254", HERE])
    world.upstream.script(says(b"hello"))

    fetched = await world.client("127.0.0.1/32").fetch(world.url("many.test"))
    assert fetched.body == b"hello"


async def test_a_name_that_is_not_there_is_a_failure(world: World) -> None:
    with pytest.raises(UpstreamFailed, match=r"'gone\.test' could not be reached"):
        await world.client().fetch(world.url("gone.test"))


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2/",
        "//169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433:1/",
        "http://b.test/",
        "file:///etc/passwd",
        "http://user:password@a.test/",
        "http://a.test:22/",
        "http://a.test\\@b.test/",
    ],
)
async def test_a_redirect_is_checked_like_the_first_address(world: World, location: str) -> None:
    world.upstream.script(to(location))
    with pytest.raises(EgressRefused):
        await world.client("a.test").fetch(world.url("a.test"))
    assert len(world.upstream.requests) == 1


async def test_redirects_are_followed_and_counted(world: World) -> None:
    client = world.client("a.test")
    world.upstream.script(*[to("/next")] * 2, says(b"arrived"))
    fetched = await client.fetch(world.url("a.test"), max_redirects=2)
    assert (fetched.body, fetched.url) == (b"arrived", world.url("a.test", "/next"))

    world.upstream.script(*[to("/next")] * 3)
    with pytest.raises(UpstreamFailed, match="more than 2 times"):
        await client.fetch(world.url("a.test"), max_redirects=2)


async def test_a_redirect_to_another_host_takes_no_credential_along(world: World) -> None:
    client = world.client("b.test", own=[world.url("a.test")])
    world.upstream.script(to(world.url("b.test")), to(world.url("a.test")), says(b"arrived"))
    await client.fetch(
        world.url("a.test"),
        headers={"X-Api-Key": KEY, "Cookie": KEY, "Accept": "text/html"},
        credential=Credential(f"a.test:{world.port}", "Authorization", KEY),
    )

    there, elsewhere, back = world.headers
    assert there["authorization"] == there["x-api-key"] == there["cookie"] == KEY
    assert KEY not in str(elsewhere)
    assert elsewhere["accept"] == "text/html"
    assert back["authorization"] == KEY
    assert "x-api-key" not in back


async def test_a_redirect_on_the_same_host_keeps_the_credential(world: World) -> None:
    client = world.client(own=[world.url()])
    world.upstream.script(to("/next"), says(b"arrived"))
    credential = Credential(f"127.0.0.1:{world.port}", "Authorization", KEY)
    await client.fetch(world.url(), credential=credential)

    assert [each["authorization"] for each in world.headers] == [KEY, KEY]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a.test/", "a.test:80"),
        ("https://a.test/", "b.test"),
        ("https://a.test/", "a.test:8443"),
        ("https://a.test.b.test/", "a.test"),
    ],
)
async def test_a_key_goes_to_its_own_host_over_https_only(
    world: World, url: str, host: str
) -> None:
    client = world.client("*.test")
    credential = Credential(host, "Authorization", KEY)
    with pytest.raises(EgressRefused, match="own host only"):
        client.endpoint(url, credential=credential)
    with pytest.raises(EgressRefused, match="own host only"):
        await client.fetch(url, credential=credential)
    assert KEY not in repr(credential)


@pytest.mark.parametrize(("code", "method"), [(302, "GET"), (303, "GET"), (307, "POST")])
async def test_a_redirect_repeats_the_body_only_where_it_should(
    world: World, code: int, method: str
) -> None:
    world.upstream.script(to("/next", code), says(b"arrived"))
    await world.client("a.test").fetch(world.url("a.test"), method="POST", body=b"{}")

    last = world.upstream.requests[-1]
    assert (last.method, last.body) == (method, b"{}" if method == "POST" else b"")


async def test_a_body_that_is_too_large_is_not_read_to_its_end(world: World) -> None:
    ended = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        exchange.start()
        try:
            while True:
                await exchange.write(b"x" * 65_536)
        except ConnectionResetError:
            ended.set()

    world.upstream.script(endless)
    with pytest.raises(UpstreamFailed, match="more than 100000 bytes"):
        await world.client("a.test").fetch(world.url("a.test"), max_bytes=100_000)
    await ended.wait()


async def test_a_compressed_body_is_not_unpacked(world: World) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    world.upstream.script(says(bomb, Content_Encoding="gzip"))
    with pytest.raises(UpstreamFailed, match="compressed"):
        await world.client("a.test").fetch(world.url("a.test"))
    assert world.headers[0]["accept-encoding"] == "identity"


async def drip(exchange: Exchange) -> None:
    exchange.start()
    while True:
        await exchange.write(b"x")
        await asyncio.sleep(0.01)


async def silent(exchange: Exchange) -> None:
    await exchange.hang()


@pytest.mark.parametrize("slow", [drip, silent])
async def test_an_answer_that_takes_too_long_is_left(world: World, slow: Behaviour) -> None:
    world.upstream.script(slow)
    with pytest.raises(UpstreamTimeout, match=r"'a\.test'"):
        await world.client("a.test").fetch(world.url("a.test"), timeout_s=0.1)
    await world.upstream.requests[0].closed.wait()


async def test_calls_share_their_connections(world: World) -> None:
    client = world.client("a.test")
    world.upstream.script(says(b"1"), says(b"2"))
    await client.fetch(world.url("a.test"))
    await client.fetch(world.url("a.test"))

    assert world.upstream.connections_made == 1


def test_one_client_serves_one_event_loop_after_another() -> None:
    async def once(client: EgressClient) -> bytes:
        async with FakeUpstream(says(b"hello")) as upstream:
            body = (await client.fetch(upstream.base_url)).body
            await client.aclose()
            return body

    client = EgressClient(EgressPolicy(["127.0.0.1"]))
    assert [asyncio.run(once(client)) for _ in range(2)] == [b"hello"] * 2


@pytest.mark.parametrize(
    "header", [{"Host": "b.test"}, {"X-A": "1\r\nX-B: 2"}, {"Transfer-Encoding": "chunked"}]
)
async def test_headers_that_would_change_the_request_are_refused(
    world: World, header: dict[str, str]
) -> None:
    with pytest.raises(InvalidValue):
        await world.client("a.test").fetch(world.url("a.test"), headers=header)
    assert world.upstream.connections_made == 0
