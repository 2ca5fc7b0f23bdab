"""Whom the network policy lets through."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.deploy.charts import of_kind, only, rendered
from worker.fetch.addresses import is_public

_PUBLIC = ["1.1.1.1", "9.255.255.255", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2a00::1"]
_NOT_PUBLIC = [
    *("10.0.0.1", "127.0.0.1", "169.254.169.254", "168.63.129.16", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "203.0.113.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2002:a00:1::1"),
]


def _egress(case: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = only(rendered(case), "NetworkPolicy")["spec"]["egress"]
    return rules


def _images(case: str) -> list[dict[str, Any]]:
    """The blocks that images may be fetched from."""
    return [
        peer["ipBlock"]
        for rule in _egress(case)
        if {"port": 80, "protocol": "TCP"} in rule.get("ports", [])
        for peer in rule["to"]
    ]


def _permits(blocks: list[dict[str, Any]], text: str) -> bool:
    address = ip_address(text)
    return any(
        address in ip_network(block["cidr"])
        and not any(address in ip_network(exception) for exception in block.get("except", []))
        for block in blocks
    )


def test_there_is_no_policy_unless_it_is_asked_for() -> None:
    assert of_kind(rendered("defaults"), "NetworkPolicy") == []


def test_only_the_metrics_port_is_let_in_from_where_it_was_said() -> None:
    policy = only(rendered("network policy"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert len(policy["ingress"]) == 1
    assert policy["ingress"][0]["ports"] == [{"port": 9108, "protocol": "TCP"}]
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert monitoring in policy["ingress"][0]["from"]


def test_no_rule_lets_everything_out() -> None:
    for case in ("network policy", "network policy to every dependency"):
        rules = _egress(case)
        assert all(rule.get("to") for rule in rules)


@pytest.mark.parametrize("address", [*_PUBLIC, *_NOT_PUBLIC])
def test_the_network_lets_images_through_from_where_the_worker_fetches_them(address: str) -> None:
    assert _permits(_images("network policy"), address) == is_public(ip_address(address))


def test_the_edges_of_every_exception_are_refused_by_the_worker_too() -> None:
    for block in _images("network policy"):
        for network in map(ip_network, block["except"]):
            assert not is_public(network.network_address)
            assert not is_public(network.broadcast_address)


def test_allowed_networks_are_let_through() -> None:
    blocks = _images("network policy to every dependency")
    assert _permits(blocks, "10.1.2.3")
    assert not _permits(blocks, "10.2.0.1")


def test_of_an_allowed_address_the_network_is_that_address_alone() -> None:
    networks = [block["cidr"] for block in _images("network policy to every dependency")]
    assert {"10.3.0.7/32", "fd00::7/128"} <= set(networks)


def test_without_fetching_nothing_is_fetched() -> None:
    assert _images("network policy without fetching") == []


def test_every_dependency_has_its_peers_and_ports() -> None:
    ports = {
        (json.dumps(rule["to"]), port["port"])
        for rule in _egress("network policy to every dependency")
        for port in rule.get("ports", [])
    }
    for peer, port in [
        ({"podSelector": {"matchLabels": {"app": "kafka"}}}, 9092),
        ({"podSelector": {"matchLabels": {"app": "qdrant"}}}, 6333),
        ({"podSelector": {"matchLabels": {"app": "redis"}}}, 6379),
        ({"ipBlock": {"cidr": "192.0.2.0/24"}}, 443),
        ({"ipBlock": {"cidr": "198.51.100.0/24"}}, 443),
    ]:
        assert (json.dumps([peer]), port) in ports
