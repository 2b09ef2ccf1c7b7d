"""Domain names where switches translate Services and tunnel: pods ask the DNS Service, whose only endpoint is on one
node, so answers come from the same switch and through a tunnel, from another port than the Service's.

Real switches and `headgate run`; see tests/helpers/lab/service_lab.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.helpers.lab.dns_server import Resolver, dns_server
from tests.helpers.lab.service_lab import SERVER_PORT, ServiceLab, service_lab

pytestmark = [pytest.mark.lab, pytest.mark.process, pytest.mark.slow]

DNS_PORT = 5353
ADDRESSES = {4: "10.96.0.53", 6: "fd00:96::53"}
TABLE: dict[str, list[str]] = {}


@pytest.fixture(scope="module")
def lab() -> Iterator[ServiceLab]:
    """x/c on node-2 is the DNS server; x/a (node-1) and x/d (node-2) may ask it, and reach *.example.com."""
    with service_lab() as made:
        ports = [{"name": one, "protocol": one.upper(), "port": 53, "targetPort": DNS_PORT} for one in ("udp", "tcp")]
        meta = {"namespace": "kube-system", "name": "kube-dns"}
        made.objects["dns"] = {
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"clusterIP": ADDRESSES[4], "clusterIPs": list(ADDRESSES.values()), "ports": ports},
        }  # fmt: skip
        for version, address in made.pod("x/c").addresses.items():
            made.objects[f"dns {version}"] = {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": f"IPv{version}",
                "metadata": {**meta, "name": f"dns-{version}", "labels": {"kubernetes.io/service-name": "kube-dns"}},
                "endpoints": [{"addresses": [address], "nodeName": "node-2"}],
                "ports": [{"name": one["name"], "protocol": one["protocol"], "port": DNS_PORT} for one in ports],
            }  # fmt: skip
        either = [{"key": "name", "operator": "In", "values": ["a", "d"]}]
        server = {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"name": "c"}}}}
        made.objects["names"] = {
            "apiVersion": "policy.networking.k8s.io/v1beta1", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "names"},
            "spec": {
                "tier": "Admin", "priority": 1,
                "subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchExpressions": either}}},
                "egress": [
                    {"action": "Accept", "to": [server],
                     "protocols": [{one: {"destinationPort": {"number": DNS_PORT}}} for one in ("udp", "tcp")]},
                    {"action": "Accept", "to": [{"domainNames": ["*.example.com"]}]},
                    {"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]},
                ],
            },
        }  # fmt: skip
        made.apply()
        # The tunnel's ends find each other with the first packet, which is lost on the userspace datapath.
        made.ask("x/b", made.pod("x/c").addresses[4], SERVER_PORT, socket.SOCK_STREAM, 5)
        with dns_server(made.pod("x/c").netns, TABLE, port=DNS_PORT):
            yield made


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("client", ["x/a", "x/d"])
def test_the_first_connection_passes_through_services_and_tunnels(lab: ServiceLab, client: str, version: int) -> None:
    target = lab.pod("x/b").addresses
    pod = Resolver(lab.pod(client).netns, ADDRESSES[version])
    name = f"{client[-1]}{version}.example.com"
    kind = "A" if version == 4 else "AAAA"
    assert lab.ask(client, target[version], SERVER_PORT, socket.SOCK_STREAM, 0.9) == "nothing"
    TABLE[name] = [target[version]]
    assert pod.ask(name, kind) == [target[version]]
    mine = lab.pod(client).addresses[version]
    assert lab.ask(client, target[version], SERVER_PORT, socket.SOCK_STREAM, 0.9) == f"x/b {mine}"
    many = [f"10.77.{number // 250}.{number % 250 + 1}" for number in range(100)]
    TABLE[f"many-{name}"] = many
    assert sorted(pod.ask(f"many-{name}")) == sorted(many), "over TCP"
