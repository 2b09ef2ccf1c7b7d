"""Interfaces, addresses, routes and neighbours, as the kernel has them afterwards, in namespaces of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import links, namespaces, routes
from node.addresses import parse_address, parse_cidr
from node.errors import NodeError
from node.netlink import Netlink
from topology.host import netns

pytestmark = pytest.mark.lab
MAC = "0a:48:47:00:00:01"


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A node's namespace, which the test is in, and a pod's."""
    node, pod = tmp_path / "node", tmp_path / "pod"
    for one in (node, pod):
        netns.create(one)
    try:
        with netns.inside(node):
            yield node, pod
    finally:
        for one in (node, pod):
            netns.remove(one)


def ip(place: Path, *words: str) -> Any:
    command = ["nsenter", f"--net={place}", "ip", "-j", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout or "[]")


def make(pod: Path) -> None:
    fd = os.open(pod, os.O_RDONLY)
    try:
        with Netlink() as netlink:
            links.make_veth(netlink, "hgp0", "eth0", fd, 1450, "0a:00:00:00:00:07")
    finally:
        os.close(fd)


def test_a_pair_between_two_namespaces(places: tuple[Path, Path]) -> None:
    node, pod = places
    make(pod)
    assert ip(pod, "link", "show", "eth0")[0]["address"] == "0a:00:00:00:00:07"
    assert ip(node, "link", "show", "hgp0")[0]["mtu"] == 1450
    with pytest.raises(NodeError, match="File exists"):
        make(pod)
    with Netlink() as netlink:
        link = links.get_link(netlink, "hgp0")
        links.set_up(netlink, link, 1400)
        assert links.get_link(netlink, "hgp0")[2:4] == (True, 1400)
        assert {one.name for one in links.list_links(netlink)} >= {"lo", "hgp0"}
        links.checksums_in_software("hgp0")
        assert links.remove_link(netlink, "hgp0") and not links.remove_link(netlink, "hgp0")
        assert links.find_link(netlink, "hgp0") is None
        with pytest.raises(NodeError, match="no interface"):
            links.get_link(netlink, "hgp0")
    assert [one["ifname"] for one in ip(pod, "link")] == ["lo"]


def test_addresses_routes_and_neighbours(places: tuple[Path, Path]) -> None:
    _node, pod = places
    make(pod)
    with Netlink() as netlink:
        links.set_up(netlink, links.get_link(netlink, "hgp0"))
    fd = os.open(pod, os.O_RDONLY)
    with namespaces.inside(fd), Netlink() as netlink:
        link = links.get_link(netlink, "eth0")
        links.sysctl("ipv6", "eth0", "disable_ipv6", 0)
        links.set_up(netlink, link)
        for address, gateway in (("10.1.0.5", "10.1.0.1"), ("fd00::5", "fd00::1")):
            packed, via = parse_address(address), parse_address(gateway)
            host = f"{gateway}/{8 * len(via)}"
            everything = parse_cidr("::/0" if ":" in gateway else "0.0.0.0/0")
            for _ in range(2):
                links.add_address(netlink, link, packed, 8 * len(packed))
                routes.put_neighbour(netlink, link, via, MAC)
                routes.put_route(netlink, link, routes.Route(parse_cidr(host)))
                routes.put_route(netlink, link, routes.Route(everything, via))
            assert (packed, 8 * len(packed)) in links.list_addresses(netlink, link)
            family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
            assert routes.Route(everything, via) in routes.list_routes(netlink, link, family)
            assert routes.list_permanent_neighbours(netlink, link, family)[via] == MAC
    os.close(fd)
    default = ip(pod, "route", "show", "default")
    assert [(one["gateway"], one["dev"]) for one in default] == [("10.1.0.1", "eth0")]
    assert [one["gateway"] for one in ip(pod, "-6", "route", "show", "default")] == ["fd00::1"]
    assert {one["dst"]: one["state"] for one in ip(pod, "neigh")} == {
        "10.1.0.1": ["PERMANENT"],
        "fd00::1": ["PERMANENT"],
    }
    flags = next(one for one in ip(pod, "addr", "show", "eth0")[0]["addr_info"] if one["local"] == "fd00::5")
    assert flags.get("nodad") and not flags.get("tentative")


def test_a_route_with_a_source_is_replaced_and_removed(places: tuple[Path, Path]) -> None:
    _node, pod = places
    make(pod)
    with Netlink() as netlink:
        link = links.get_link(netlink, "hgp0")
        links.set_up(netlink, link)
        links.add_address(netlink, link, parse_address("192.0.2.7"), 32)
        route = routes.Route(parse_cidr("10.2.0.0/16"), parse_address("169.254.72.1"), parse_address("192.0.2.7"))
        routes.put_route(netlink, link, route._replace(source=b""))
        routes.put_route(netlink, link, route)
        assert routes.list_routes(netlink, link, socket.AF_INET) == [route]
        assert routes.remove_route(netlink, link, route) and not routes.remove_route(netlink, link, route)
        assert links.remove_address(netlink, link, parse_address("192.0.2.7"), 32)
        assert not links.remove_address(netlink, link, parse_address("192.0.2.7"), 32)
