"""Services of SCTP on the kernel's datapath, whose conntrack knows the ports of SCTP: cluster IPs, node ports, policy,
and sources.

Real associations and `headgate run`; see tests/helpers/lab/service_lab. `make kernel-test` runs them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.lab.datapath_choice import kernel_only
from tests.helpers.lab.service_lab import SERVER_PORT, ServiceLab, cluster_ip, service_lab
from topology.host import netns
from topology.host.machine import has_sctp

pytestmark = [
    pytest.mark.lab,
    pytest.mark.process,
    pytest.mark.slow,
    kernel_only,
    pytest.mark.skipif(not has_sctp(), reason="this kernel has no SCTP"),
]
NUMBER = 40
FAMILIES = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def lab() -> Iterator[ServiceLab]:
    """One Service before x/c, which listens."""
    with service_lab() as made:
        made.add_service("sctp", NUMBER, ["x/c"], type="NodePort")
        port = {"name": "sctp", "protocol": "SCTP"}
        served = {"port": 80, "targetPort": SERVER_PORT, "nodePort": 30000 + NUMBER}
        made.objects["service sctp"]["spec"]["ports"].append(port | served)
        for version in (4, 6):
            made.objects[f"slice sctp-{version}"]["ports"].append(port | {"port": SERVER_PORT})
        made.apply()
        yield made


def associate(lab: ServiceLab, client: str, to: str, number: int) -> str:
    """Who the server at x/c says has connected, "" if nobody could."""
    version = 6 if ":" in to else 4
    where, addresses = lab.place("x/c")
    server, made = (_socket(place, version) for place in (where, lab.place(client)[0]))
    with closing(server), closing(made):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((addresses[version], SERVER_PORT))
        server.listen()
        try:
            made.connect((to, number))
        except OSError:
            return ""
        taken, source = server.accept()
        taken.close()
        return str(source[0])


def _socket(where: Path, version: int) -> socket.socket:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with netns.inside(where):
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    made.settimeout(5)
    return made


@FAMILIES
@pytest.mark.parametrize("client", ["x/a", "x/d", "node-1"])
def test_a_service_is_reached_from_the_real_source(lab: ServiceLab, client: str, version: int) -> None:
    mine = lab.place(client)[1][version]
    assert associate(lab, client, cluster_ip(NUMBER, version), 80) == mine
    assert associate(lab, client, lab.place("node-1")[1][version], 30000 + NUMBER) == mine


@FAMILIES
def test_a_client_outside_reaches_a_node_port(lab: ServiceLab, version: int) -> None:
    assert associate(lab, "client", lab.place("node-2")[1][version], 30000 + NUMBER) == lab.place("client")[1][version]


@FAMILIES
@pytest.mark.parametrize("direction", ["Egress", "Ingress"])
def test_policy_sees_the_endpoint_and_the_source(lab: ServiceLab, direction: str, version: int) -> None:
    to = cluster_ip(NUMBER, version)
    subject, peer = ("a", "c") if direction == "Egress" else ("c", "a")
    try:
        lab.add_policy("sctp", subject, direction, [peer])
        assert associate(lab, "x/a", to, 80) != ""
        lab.apply()
        assert associate(lab, "x/a", to, 80) == "", "TCP and UDP alone are allowed"
        side = "egress" if direction == "Egress" else "ingress"
        lab.objects["policy sctp"]["spec"][side][0]["ports"] = [{"protocol": "SCTP", "port": SERVER_PORT}]
        lab.apply()
        assert associate(lab, "x/a", to, 80) == lab.place("x/a")[1][version]
        if direction == "Ingress":
            assert associate(lab, "x/b", to, 80) == ""
    finally:
        lab.objects.pop("policy sctp", None)
        lab.apply()
