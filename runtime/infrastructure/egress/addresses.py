"""Hosts in one spelling, and what an address leads to."""

import re
from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LONGEST_HOST = 253
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Reach(Enum):
    PUBLIC = "public"
    INTERNAL = "internal"
    """This machine or a private network: open to hosts that an operator names."""
    CLOSED = "closed"
    """Link-local, metadata, multicast, reserved: open only where an operator names the address."""


def _v4(*networks: str) -> tuple[IPv4Network, ...]:
    return tuple(IPv4Network(each) for each in networks)


def _v6(*networks: str) -> tuple[IPv6Network, ...]:
    return tuple(IPv6Network(each) for each in networks)


_INTERNAL_V4 = _v4("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_CLOSED_V4 = _v4(
    "0.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
)
_INTERNAL_V6 = _v6("::1/128", "fc00::/7")
_PUBLIC_V6 = _v6("2000::/3")
# Protocol assignments with Teredo, documentation, 6to4.
_CLOSED_V6 = _v6("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
_NAT64 = IPv6Network("64:ff9b::/96")
_METADATA = frozenset(
    ip_address(each) for each in ("100.100.100.200", "168.63.129.16", "fd00:ec2::254")
)
"""Instance metadata beside link-local: in carrier-grade NAT, public and unique-local space."""


def reach(address: Address) -> Reach:
    if address in _METADATA:
        return Reach.CLOSED
    if isinstance(address, IPv4Address):
        return _first(address, _CLOSED_V4, _INTERNAL_V4, otherwise=Reach.PUBLIC)
    if address in _NAT64:
        embedded = reach(IPv4Address(int(address) & 0xFFFFFFFF))
        return Reach.PUBLIC if embedded is Reach.PUBLIC else Reach.CLOSED
    if any(address in network for network in _PUBLIC_V6):
        return _first(address, _CLOSED_V6, (), otherwise=Reach.PUBLIC)
    return _first(address, (), _INTERNAL_V6, otherwise=Reach.CLOSED)


def _first(
    address: Address, closed: Iterable[Network], internal: Iterable[Network], *, otherwise: Reach
) -> Reach:
    if any(address in network for network in closed):
        return Reach.CLOSED
    if any(address in network for network in internal):
        return Reach.INTERNAL
    return otherwise


def canonical(host: str) -> str:
    """`host` (ASCII, as a URL parser gives it) in its one spelling.

    An IPv4 address may be written with one to four numbers, decimal, octal or hexadecimal (WHATWG
    URL, "IPv4 parser"); whatever ends in a number is an address. Raises ValueError.
    """
    name = host.lower().strip("[]")
    if ":" in name:
        return str(IPv6Address(_without_zone(name)))
    name = name.removesuffix(".")
    if len(name) > LONGEST_HOST or not _NAME.fullmatch(name):
        raise ValueError("no host name")
    if _NUMBER.fullmatch(name.rsplit(".", 1)[-1]):
        return str(_ipv4(name.split(".")))
    return name


def address_of(host: str) -> Address | None:
    """None when a canonical `host` is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def network_of(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _without_zone(name: str) -> str:
    if "%" in name:
        raise ValueError("a zone names a link, not a host")
    return name


def _ipv4(parts: list[str]) -> IPv4Address:
    *head, last = (_number(part) for part in parts)
    if len(head) > 3 or any(each > 255 for each in head) or last >= 256 ** (4 - len(head)):
        raise ValueError("no IPv4 address")
    return IPv4Address(last + sum(each << 8 * (3 - index) for index, each in enumerate(head)))


def _number(part: str) -> int:
    if not _NUMBER.fullmatch(part):
        raise ValueError("no number")
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8) if part.startswith("0") else int(part)
