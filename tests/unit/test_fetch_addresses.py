"""Which addresses may be connected to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.errors import ConfigError, InvalidPost, Reason
from worker.fetch.addresses import AddressPolicy, is_public

REFUSED = {
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "private 10": "10.1.2.3",
    "carrier-grade NAT": "100.64.0.1",
    "metadata inside carrier-grade NAT": "100.100.100.200",
    "loopback": "127.0.0.1",
    "far loopback": "127.255.255.254",
    "platform address of a cloud": "168.63.129.16",
    "metadata": "169.254.169.254",
    "private 172": "172.31.255.255",
    "protocol assignments": "192.0.0.192",
    "documentation 1": "192.0.2.1",
    "6to4 relay": "192.88.99.1",
    "private 192": "192.168.0.1",
    "benchmarking": "198.19.0.1",
    "documentation 2": "198.51.100.1",
    "documentation 3": "203.0.113.1",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "unspecified v6": "::",
    "loopback v6": "::1",
    "IPv4-compatible": "::8.8.8.8",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped private": "::ffff:10.0.0.1",
    "mapped metadata": "::ffff:169.254.169.254",
    "translated": "::ffff:0:8.8.8.8",
    "NAT64 of a private address": "64:ff9b::10.0.0.1",
    "NAT64 of metadata": "64:ff9b::a9fe:a9fe",
    "local NAT64": "64:ff9b:1::8.8.8.8",
    "discard": "100::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "benchmarking v6": "2001:2::1",
    "ORCHID": "2001:20::1",
    "documentation v6": "2001:db8::1",
    "6to4 of a private address": "2002:a00:1::1",
    "6to4 of a public address": "2002:808:808::1",
    "new documentation": "3fff::1",
    "segment routing": "5f00::1",
    "unique local": "fc00::1",
    "metadata v6": "fd00:ec2::254",
    "link-local v6": "fe80::1",
    "scoped": "fe80::1%eth0",
    "scoped public": "2606:4700::1111%eth0",
    "site-local": "fec0::1",
    "multicast v6": "ff02::1",
}
PUBLIC = ("8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "11.0.0.1")
PUBLIC_V6 = ("2606:4700::1111", "2a00:1450::1", "2001:4860::8888", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8")


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED.keys())
def test_special_purpose_address_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_V6])
def test_ordinary_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(address=st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6, network="2000::/3")))
@example(address=ip_address("192.0.0.9"))
def test_nothing_that_python_calls_private_is_public(address: IPv4Address | IPv6Address) -> None:
    assert not (is_public(address) and (address.is_private or address.is_multicast or address.is_reserved))


@given(address=st.ip_addresses(v=4))
def test_mapped_and_nat64_addresses_are_judged_like_what_they_reach(
    address: IPv4Address | IPv6Address,
) -> None:
    mapped, nat64 = IPv6Address(f"::ffff:{address}"), IPv6Address(f"64:ff9b::{address}")
    assert is_public(mapped) == is_public(nat64) == is_public(address)


def test_answer_of_public_addresses_is_taken_in_its_order_without_repeats() -> None:
    answer = ["2606:4700::1111", "8.8.8.8", "8.8.8.8"]
    assert AddressPolicy().check("pictures.example", answer) == ["2606:4700::1111", "8.8.8.8"]


@pytest.mark.parametrize("answer", [["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["8.8.8.8", "::1"]])
def test_one_private_address_refuses_the_whole_answer(answer: list[str]) -> None:
    with pytest.raises(
        InvalidPost, match=r"pictures\.example \((10\.0\.0\.1|::1)\) is not a public"
    ) as caught:
        AddressPolicy().check("pictures.example", answer)
    assert caught.value.reason is Reason.IMAGE_REFUSED


def test_allowed_network_is_permitted_and_its_neighbour_is_not() -> None:
    policy = AddressPolicy.of(["10.1.0.0/16", "fd12::/64"])
    assert policy.check("store", ["10.1.2.3", "fd12::5", "8.8.8.8"]) == ["10.1.2.3", "fd12::5", "8.8.8.8"]
    assert not policy.permits(ip_address("10.2.0.1"))
    assert not policy.permits(ip_address("fd12:0:0:1::5"))


def test_mapped_form_of_an_allowed_address_is_permitted() -> None:
    assert AddressPolicy.of(["127.0.0.1/32"]).permits(ip_address("::ffff:127.0.0.1"))


@pytest.mark.parametrize("address", ["fe80::1%eth0", "::ffff:10.0.0.1%eth0"])
def test_scoped_address_is_refused_inside_an_allowed_network(address: str) -> None:
    assert not AddressPolicy.of(["fe80::/10", "10.0.0.0/8"]).permits(ip_address(address))


@pytest.mark.parametrize("network", ["10.1.2.3/16", "private", "", "10.0.0.0/33"])
def test_what_is_no_network_is_a_configuration_error(network: str) -> None:
    with pytest.raises(ConfigError, match="allow_networks"):
        AddressPolicy.of([network])
