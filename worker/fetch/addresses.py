"""Which addresses may be connected to: public ones, and the networks that the configuration allows.

The list is written out instead of taken from `ipaddress`, whose own tables change between patch releases of
Python. It follows IANA's registries of special-purpose addresses (RFC 6890 and its updates).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from worker.errors import ConfigError, InvalidPost, Reason

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; 0.0.0.0 reaches the machine itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a public number that Azure answers from inside every virtual machine
        "169.254.0.0/16",  # link-local, and the metadata services of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
    )
)
# Everything outside this is loopback, unspecified, IPv4-compatible, local NAT64, unique local (with
# fd00:ec2::254, a metadata service), link-local, site-local, multicast or not assigned.
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise, with no honest use left
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # the last 32 bits are the IPv4 address that is reached


def is_public(address: Address) -> bool:
    """Whether anybody on the internet may be meant by it.

    IPv4 addresses inside IPv6 ones (mapped, NAT64) are judged as the IPv4 address that they reach. A
    network's own NAT64 prefix looks like any public address and cannot be told.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        inner = _embedded(address)
        if inner is None:
            return address in _GLOBAL_V6 and not any(address in network for network in _REFUSED_V6)
        address = inner
    return not any(address in network for network in _REFUSED_V4)


def parse_address(text: str) -> Address | None:
    """The address in its one usual notation; None for a name, and for the other notations of inet_aton."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else None


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be connected to.

    Args:
        allowed: networks that may be fetched from although they are not public.
    """

    allowed: tuple[Network, ...] = ()

    @classmethod
    def of(cls, networks: Iterable[str]) -> AddressPolicy:
        """Read the configuration's list.

        Raises:
            ConfigError: one of them is no network.
        """
        try:
            return cls(tuple(ip_network(network) for network in networks))
        except ValueError as error:
            raise ConfigError(f"configuration: fetch.allow_networks: {error}") from error

    def permits(self, address: Address) -> bool:
        """Whether this address may be connected to."""
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                return False
            address = address.ipv4_mapped or address
        return is_public(address) or any(address in network for network in self.allowed)

    def check(self, host: str, answer: Sequence[str]) -> list[str]:
        """All addresses that a name resolved to, in their order, each permitted.

        One that is not refuses the whole answer: a name with public and private addresses is a trick or
        a mistake of its zone, and which of them is reached would be left to chance.

        Raises:
            InvalidPost: one of them is not permitted.
        """
        checked: list[str] = []
        for text in answer:
            address = parse_address(text)
            if address is None or not self.permits(address):
                shown = text if text == host else f"{host} ({text})"
                raise InvalidPost(Reason.IMAGE_REFUSED, f"{shown[:300]} is not a public address")
            checked.append(str(address))
        return list(dict.fromkeys(checked))
