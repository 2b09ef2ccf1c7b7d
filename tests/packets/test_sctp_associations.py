"""Associations of the kernel's own SCTP under ClusterNetworkPolicies, on the kernel's datapath: what a change denies
stops in an association that runs, and goes on in the same one when it is allowed again.

Which associations may be opened, the truth tables say: where the kernel has SCTP, their probes are sockets of it.
`make kernel-test` runs this.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.helpers.lab.datapath_choice import kernel_only
from topology.host.machine import has_sctp
from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab

pytestmark = [
    pytest.mark.lab,
    kernel_only,
    pytest.mark.skipif(not has_sctp(), reason="this kernel has no SCTP"),
]
CLIENT, SERVERS = "x/a", ("y/a", "y/b")  # on the client's node, and on the other one
SILENCE = 5.0  # seconds, in which the kernel sends again what was lost
BACK = 60.0  # it waits longer each time
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def denial(subject: str, peer: str, direction: str, protocol: dict[str, object]) -> str:
    """A ClusterNetworkPolicy that denies a namespace one protocol with another one."""
    word = "from" if direction == "ingress" else "to"
    rule = {"action": "Deny", word: [{"namespaces": {"matchLabels": {"ns": peer}}}], "protocols": [protocol]}
    subjects = {"namespaces": {"matchLabels": {"ns": subject}}}
    spec = {"tier": "Admin", "priority": 0, "subject": subjects, direction: [rule]}
    api = "policy.networking.k8s.io/v1beta1"
    return json.dumps({"apiVersion": api, "kind": "ClusterNetworkPolicy", "metadata": {"name": "no"}, "spec": spec})


@contextmanager
def association(lab: Lab, server: str, family: int) -> Iterator[socket.socket]:
    """An association with a server of the lab, which has said its name and echoes."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6

    def made() -> socket.socket:
        with inside(lab.netns(CLIENT)):
            return socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_SCTP)

    with in_thread(made) as client:
        client.settimeout(BACK)
        client.bind((lab.endpoints[CLIENT].addresses[family], 0))
        client.connect((lab.endpoints[server].addresses[family], 80))
        assert client.recv(64) == f"{server}\n".encode()
        yield client


def echoes(client: socket.socket, said: bytes) -> None:
    client.settimeout(BACK)
    client.sendall(said)
    assert client.recv(64) == said


@FAMILIES
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_an_association_stops_and_goes_on(lab: Lab, direction: str, server: str, family: int) -> None:
    subject, peer = ("x", "y") if direction == "egress" else ("y", "x")
    others: dict[str, object] = {"tcp": {"destinationPort": {"number": 80}}}
    ports: dict[str, object] = {"sctp": {"destinationPort": {"range": {"start": 80, "end": 90}}}}
    try:
        with association(lab, server, family) as client:
            echoes(client, b"before")
            lab.apply(denial(subject, peer, direction, others))
            echoes(client, b"TCP is denied")
            lab.apply(denial(subject, peer, direction, ports))
            client.sendall(b"lost")
            client.settimeout(SILENCE)
            with pytest.raises(TimeoutError):
                client.recv(64)
            lab.delete(denial(subject, peer, direction, ports))
            client.settimeout(BACK)
            assert client.recv(64) == b"lost", "it was sent again"
            echoes(client, b"after")
    finally:
        lab.reset()
