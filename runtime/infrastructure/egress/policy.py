"""Where the runtime may call."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from yarl import URL

from runtime.domain.errors import EgressRefused, InvalidValue
from runtime.infrastructure.egress.addresses import (
    Address,
    Network,
    Reach,
    address_of,
    canonical,
    network_of,
    reach,
)

SETTING = "RUNTIME_ALLOWED_EGRESS"
_LONGEST_URL = 8_192
_WEB_PORTS = (80, 443)
_FIRST_UNPRIVILEGED = 1_024
# Services whose line protocols take an HTTP request for commands, and the ports that browsers
# block above 1023 (WHATWG Fetch, "bad port").
_OTHER_SERVICES = frozenset(
    {1719, 1720, 1723, 2049, 2375, 3306, 3659, 4045, 4190, 5060, 5061, 5432, 6000, 6379, 6566}
    | {6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080, 11211, 27017}
)
_NOT_HTTP = "only http:// and https:// addresses are called."
_MALFORMED = "it is no address that can be called."


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be called; its host is in its one spelling."""

    url: URL
    host: str
    port: int
    named: bool
    """An operator's setting names it, as a provider's address or as one that may be called."""

    @property
    def origin(self) -> tuple[str, int]:
        return self.host, self.port


@dataclass(frozen=True, slots=True)
class _Rule:
    host: str = ""
    """A name or an address; `.suffix` stands for every name below it."""
    network: Network | None = None
    port: int | None = None

    @property
    def below(self) -> bool:
        return self.host.startswith(".")

    def names(self, host: str, port: int) -> bool:
        if self.network is not None or self.port not in (None, port):
            return False
        return host.endswith(self.host) if self.below else host == self.host

    def holds(self, address: Address, port: int) -> bool:
        network = self.network
        return (
            network is not None
            and self.port in (None, port)
            and address.version == network.version
            and address in network
        )

    def covers(self, host: str, port: int) -> bool:
        """As it is written, before any name is resolved."""
        address = address_of(host)
        return self.names(host, port) or (address is not None and self.holds(address, port))


class EgressPolicy:
    """Public addresses on the web's ports, and what an operator adds to them.

    `allowed`: hosts, `host:port`, `*.suffix`, addresses and networks (CIDR). A name opens private
    networks and loopback; link-local, metadata and reserved addresses have to be named themselves.
    `own`: URLs from the operator's settings; their host and port are called as they stand.
    """

    def __init__(self, allowed: Sequence[str] = (), *, own: Iterable[str] = ()) -> None:
        """Raises InvalidValue."""
        self._rules = [_rule(entry) for entry in allowed]
        self._own = frozenset(_origin(url) for url in own)

    def check(self, url: str | URL) -> Target:
        """Raises EgressRefused. An address is judged here, a name when it is resolved."""
        parsed = _parsed(url)
        try:
            host, port = canonical(parsed.raw_host or ""), parsed.port
        except ValueError:
            raise EgressRefused(_shown(parsed), _MALFORMED) from None
        if not port:
            raise EgressRefused(host, _MALFORMED)
        own = (host, port) in self._own
        if (parsed.raw_user or parsed.raw_password) and not own:
            raise EgressRefused(host, "credentials don't belong into an address.")
        if not self._port_open(host, port):
            why = f"port {port} is not one of the web's; {SETTING} can name '{host}:{port}'."
            raise EgressRefused(host, why)
        if address_of(host) is not None and not self.permits(host, port, host):
            raise refused(host)
        url = parsed.with_host(host) if host != parsed.raw_host else parsed
        return Target(url, host, port, named=own or self._is_named(host, port))

    def follow(self, target: Target, location: str) -> Target:
        """A redirect's target. Raises EgressRefused."""
        return self.check(target.url.join(_parsed(location, absolute=False)))

    def permits(self, host: str, port: int, address: str) -> bool:
        """Whether `host` may be called at the `address` that it was resolved to."""
        host = host.lower().removesuffix(".")
        if (host, port) in self._own:
            return True
        found = ip_address(address)
        reached = reach(found)
        if reached is Reach.PUBLIC:
            return True
        if any(rule.holds(found, port) for rule in self._rules):
            return True
        return reached is Reach.INTERNAL and any(rule.names(host, port) for rule in self._rules)

    def _is_named(self, host: str, port: int) -> bool:
        """By itself: whoever allows all names below a suffix has not seen each of them."""
        return any(rule.covers(host, port) and not rule.below for rule in self._rules)

    def _port_open(self, host: str, port: int) -> bool:
        if port in _WEB_PORTS or (host, port) in self._own:
            return True
        if port >= _FIRST_UNPRIVILEGED and port not in _OTHER_SERVICES:
            return True
        return any(rule.port == port and rule.covers(host, port) for rule in self._rules)


def refused(host: str) -> EgressRefused:
    return EgressRefused(
        host,
        "it is, or leads to, a private or reserved address. "
        f"An operator can allow it with {SETTING}.",
    )


def _parsed(url: str | URL, *, absolute: bool = True) -> URL:
    """Raises EgressRefused, before two parsers could read the same text differently."""
    if isinstance(url, str):
        if len(url) > _LONGEST_URL or "\\" in url or any(c <= " " or c == "\x7f" for c in url):
            raise EgressRefused("", _MALFORMED)
        try:
            url = URL(url)
        except ValueError:
            raise EgressRefused("", _MALFORMED) from None
    if absolute and url.scheme not in ("http", "https"):
        raise EgressRefused(_shown(url), _NOT_HTTP)
    return url


def _shown(url: URL) -> str:
    return (url.raw_host or "")[:100]


def _origin(url: str) -> tuple[str, int]:
    try:
        parsed = URL(url)
        return canonical(parsed.raw_host or ""), parsed.port or 0
    except ValueError:
        raise InvalidValue("An address in the settings is none that can be called.") from None


def _rule(entry: str) -> _Rule:
    text = entry.strip().lower()
    network = network_of(text)
    if network is not None:
        return _Rule(network=network)
    below = text.startswith("*.")
    try:
        parsed = URL(f"//{text.removeprefix('*.')}")
        if parsed.raw_path not in ("", "/") or parsed.raw_user or parsed.query_string:
            raise ValueError
        host, port = canonical(parsed.raw_host or ""), parsed.explicit_port
    except ValueError:
        raise InvalidValue(
            f"{SETTING}: '{entry}' is no host, host:port, *.suffix, address or network."
        ) from None
    if address_of(host) is not None:
        if below:
            raise InvalidValue(f"{SETTING}: nothing is below the address in '{entry}'.")
        return _Rule(network=network_of(host), port=port)
    return _Rule(f".{host}" if below else host, port=port)
