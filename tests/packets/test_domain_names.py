"""Domain names in ClusterNetworkPolicies, on real packets: a real DNS server, pods that ask it, and connections.

Pods x/a (node one) and x/b (node two) may ask DNS, which is pod y/b, and reach *.example.com; nothing else. The names
stand for addresses of the machine outside.
"""

from __future__ import annotations

import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dns.message
import pytest
import yaml

from flows.pipeline.priorities import DEFAULT_OF_POD
from flows.pipeline.tables import EGRESS_DEFAULT
from flows.render.answers import LISTENING_SECONDS
from tests.helpers.lab.datapath_choice import KERNEL
from tests.helpers.lab.dns_server import Resolver, answer_to, dns_server, echo_server
from tests.helpers.lab.truth_lab import OUTSIDE_END, PLACEMENT, world_lab
from tests.helpers.waiting import until
from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab

pytestmark = pytest.mark.lab

ANNOTATION = "headgate.io/audit"
PORT = 8443
MIN_TTL = 3
ADDRESSES = [f"10.10.77.{number}" for number in range(1, 201)]
SIX = [f"fd00:10:10:77::{number:x}" for number in range(1, 21)]
POLICY = {
    "apiVersion": "policy.networking.k8s.io/v1beta1", "kind": "ClusterNetworkPolicy", "metadata": {"name": "names"},
    "spec": {
        "tier": "Admin", "priority": 10, "subject": {"namespaces": {"matchLabels": {"ns": "x"}}},
        "egress": [
            {"action": "Accept", "to": [{"namespaces": {"matchLabels": {"ns": "y"}}}],
             "protocols": [{one: {"destinationPort": {"number": 53}}} for one in ("udp", "tcp")]},
            {"action": "Accept", "to": [{"domainNames": ["*.example.com"]}]},
            {"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]},
        ],
    },
}  # fmt: skip
TABLE: dict[str, list[str]] = {}


def service(addresses: list[str]) -> list[dict[str, object]]:
    """The DNS Service, and its endpoints by address."""
    meta = {"namespace": "kube-system", "name": "kube-dns"}
    ports = [{"name": one, "port": 53, "protocol": one.upper()} for one in ("udp", "tcp")]
    found: list[dict[str, object]] = [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta,
         "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": ports}}
    ]  # fmt: skip
    for number, address in enumerate(addresses):
        kind = "IPv6" if ":" in address else "IPv4"
        found.append(
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
             "metadata": {"namespace": "kube-system", "name": f"kube-dns-{number}",
                          "labels": {"kubernetes.io/service-name": "kube-dns"}},
             "endpoints": [{"addresses": [address]}], "ports": ports}
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    settings = {"HEADGATE_DNS_MIN_TTL": str(MIN_TTL)}
    with world_lab(("x/a", "x/b", "y/b"), environment=settings) as made:
        outside = made.netns(OUTSIDE_END)

        def add() -> None:
            with inside(outside):
                for address in (*ADDRESSES, *SIX):
                    netns_add(address)

        in_thread(add)
        server = made.endpoints["y/b"].addresses
        made.apply(yaml.safe_dump_all([*service([server[4], server[6]]), POLICY]))
        with dns_server(made.netns("y/b"), TABLE, ttl=1), echo_server(outside, PORT):
            yield made


def netns_add(address: str) -> None:
    prefix, more = ("64", ("nodad",)) if ":" in address else ("16", ())
    subprocess.run(("ip", "address", "add", f"{address}/{prefix}", "dev", "eth0", *more), check=True)


def resolver(lab: Lab, pod: str, family: int = 4) -> Resolver:
    return Resolver(lab.netns(pod), lab.endpoints["y/b"].addresses[family])


def test_the_first_connection_after_an_answer_is_never_lost(lab: Lab) -> None:
    pod = resolver(lab, "x/a")
    assert not pod.connects(ADDRESSES[0], PORT)
    for number, address in enumerate(ADDRESSES[:100]):
        TABLE[f"w{number}.example.com"] = [address]
        assert pod.ask(f"w{number}.example.com") == [address]
        assert pod.connects(address, PORT), number


@contextmanager
def audit(lab: Lab, mode: str) -> Iterator[None]:
    """Whether pods of x are audited."""
    for noted in ({ANNOTATION: mode}, {}):
        space = {"name": "x", "labels": {"ns": "x"}, "annotations": noted}
        lab.manifests.put([{"apiVersion": "v1", "kind": "Namespace", "metadata": space}])
        lab.wait()
        if noted:
            yield


@contextmanager
def no_revalidation(lab: Lab, pod: str) -> Iterator[None]:
    """The switch of a pod revises no megaflow, as it may for a while where others need the processors."""
    node = lab.nodes[PLACEMENT[pod]]
    node.appctl("revalidator/pause")
    try:
        yield
    finally:
        node.appctl("revalidator/resume")


@pytest.mark.parametrize(("mode", "number"), [("off", 0), ("denied", 1)])
def test_no_outdated_megaflow_takes_the_first_packet(lab: Lab, mode: str, number: int) -> None:
    with audit(lab, mode):
        for version, address in ((4, ADDRESSES[123 + number]), (6, SIX[12 + number])):
            pod, name = resolver(lab, "x/a", version), f"outdated{version}-{mode}.example.com"
            TABLE[name] = [address]
            assert not pod.connects(address, PORT)
            with no_revalidation(lab, "x/a"):
                assert pod.ask(name, "A" if version == 4 else "AAAA") == [address]
                assert pod.connects(address, PORT)


def test_no_outdated_megaflow_takes_the_first_datagram(lab: Lab) -> None:
    pod, (other, address) = resolver(lab, "x/a"), ADDRESSES[121:123]
    TABLE["datagrams.example.com"] = [address]
    with Resolver(lab.netns(OUTSIDE_END), "").new_socket(socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", PORT))
        server.settimeout(0.9)
        with pod.new_socket(socket.SOCK_DGRAM) as one, pod.new_socket(socket.SOCK_DGRAM) as client:
            for sender, to in ((one, address), (client, other)):
                sender.sendto(b"denied", (to, PORT))
                with pytest.raises(TimeoutError):
                    server.recv(64)
            with no_revalidation(lab, "x/a"):
                assert pod.ask("datagrams.example.com") == [address]
                client.sendto(b"allowed", (address, PORT))
                assert server.recv(64) == b"allowed"


@pytest.mark.parametrize("mode", ["off", "denied"])
def test_a_second_look_is_not_counted(lab: Lab, mode: str) -> None:
    def denied() -> int:
        found = lab.nodes[PLACEMENT["x/a"]].ofctl("dump-flows", f"table={EGRESS_DEFAULT.number}")
        return sum(map(int, re.findall(f"n_packets=([0-9]+),.* priority={DEFAULT_OF_POD},", found)))

    def told() -> int:
        events = lab.product.get("/audit?limit=10000")["events"]
        return sum(one["packets"] for one in events if one["destination"]["address"] == ADDRESSES[130])

    with audit(lab, mode):
        pod, before = resolver(lab, "x/a"), denied()
        for _ in range(5):
            assert not pod.connects(ADDRESSES[130], PORT)
        until(lambda: denied() - before >= 5, "the packets")
        assert denied() - before == 5
        if mode == "denied":
            until(lambda: told() >= 5, "the events")
            assert told() == 5


def test_names_aliases_and_families(lab: Lab) -> None:
    pod = resolver(lab, "x/a", 6)
    TABLE["example.com"] = [ADDRESSES[100]]
    TABLE["www.example.net"] = [ADDRESSES[101]]
    TABLE["alias.example.com"] = ["a.cdn.example.net"]
    TABLE["a.cdn.example.net"] = [ADDRESSES[102], SIX[0]]
    TABLE["of.example.net"] = ["b.example.com"]
    TABLE["b.example.com"] = [ADDRESSES[103]]
    for name in ("example.com", "www.example.net", "of.example.net"):
        (address,) = pod.ask(name)
        assert not pod.connects(address, PORT), name
    for name in ("ALIAS.example.com", "alias.Example.com"):
        for kind in ("A", "AAAA"):
            (address,) = pod.ask(name, kind)
            assert pod.connects(address, PORT), name
    assert not resolver(lab, "x/b").connects(ADDRESSES[102], PORT), "what one pod learns is not another's"


def test_a_hundred_addresses_come_over_tcp(lab: Lab) -> None:
    pod = resolver(lab, "x/b")
    TABLE["many.example.com"] = ADDRESSES[:150]
    assert len(pod.ask("many.example.com")) == 150
    for address in ADDRESSES[:150:10]:
        assert pod.connects(address, PORT), address


@pytest.mark.xfail(
    KERNEL,
    reason="the kernel's datapath hands it over as one packet, longer than the pod's port takes: docs/adr/0021",
    raises=TimeoutError,
    strict=True,
)
def test_an_answer_in_fragments_comes_and_opens_nothing(lab: Lab) -> None:
    pod = resolver(lab, "x/b")
    TABLE["parts.example.com"] = ADDRESSES[20:]
    assert len(pod.ask("parts.example.com", payload=4096)) == 180
    assert not pod.connects(ADDRESSES[199], PORT)


def test_running_connections_outlive_the_answer(lab: Lab) -> None:
    pod, address = resolver(lab, "x/a"), ADDRESSES[110]
    TABLE["short.example.com"] = [address]
    assert pod.ask("short.example.com") == [address]
    with pod.open(address, PORT) as running:
        talk(running)
        until = time.monotonic() + MIN_TTL + 10
        while pod.connects(address, PORT):
            assert time.monotonic() < until
            time.sleep(0.3)
        talk(running)
        assert pod.ask("short.example.com") == [address]
        assert pod.connects(address, PORT)
        talk(running)


def talk(running: socket.socket) -> None:
    running.settimeout(3)
    running.sendall(b"hello")
    assert running.recv(64) == b"hello"


def test_a_controller_that_restarts_keeps_what_was_open(lab: Lab) -> None:
    pod, address, other = resolver(lab, "x/b"), ADDRESSES[120], ADDRESSES[121]
    TABLE["kept.example.com"], TABLE["new.example.com"] = [address], [other]
    assert pod.ask("kept.example.com") == [address]
    with pod.open(address, PORT) as running:
        talk(running)
        lab.product.stop(signal.SIGKILL)
        talk(running)
        assert pod.connects(address, PORT), "what was open stays"
        until = time.monotonic() + LISTENING_SECONDS + 10
        while True:  # answers come again, and open nothing
            with suppress(TimeoutError):
                assert pod.ask("new.example.com", timeout=1) == [other]
                break
            assert time.monotonic() < until
        assert not pod.connects(other, PORT)
        lab.product.start()
        lab.wait()
        talk(running)
        assert pod.ask("new.example.com") == [other]
        assert pod.connects(other, PORT)
        talk(running)
    learned = lab.product.get("/pods/x/b")["learned"]
    assert "kept.example.com" in {one["name"] for one in learned}


def test_forged_answers_open_nothing(lab: Lab) -> None:
    """Answers that come from the server's own address, to a port that waits for another; meanwhile true ones count."""
    pod, forged = resolver(lab, "x/a"), ADDRESSES[130]
    server, victim_address = lab.endpoints["y/b"].addresses[4], lab.endpoints["x/a"].addresses[4]
    TABLE["asked.example.com"] = [ADDRESSES[131]]
    with pod.new_socket(socket.SOCK_DGRAM) as victim, in_thread(lambda: raw_socket(lab)) as liar:
        victim.connect((server, 53))
        victim.send(dns.message.make_query("asked.example.com", "A", id=40000).to_wire())
        port = victim.getsockname()[1]
        for number in range(1000):
            name = "forged.example.com" if number % 2 else "asked.example.com"
            question = dns.message.make_query(name, "A", id=number)
            lie = answer_to(question.to_wire(), {name: [forged]})
            header = struct.pack("!HHHH", 53, port, 8 + len(lie), 0)
            liar.sendto(header + lie, (victim_address, 0))
            if number % 50 == 0:
                true = ADDRESSES[132 + number // 50]
                TABLE[f"true{number}.example.com"] = [true]
                assert pod.ask(f"true{number}.example.com") == [true]
                assert pod.connects(true, PORT), number
    assert not pod.connects(forged, PORT)
    until = time.monotonic() + 20  # counted once nobody has asked for so long that none will
    while 'headgate_dns_packets_total{result="unasked"}' not in lab.product.text("/metrics"):
        assert time.monotonic() < until
        time.sleep(0.2)


def raw_socket(lab: Lab) -> socket.socket:
    """A socket of the DNS pod that sends UDP from any port: here from the server's."""
    with inside(lab.netns("y/b")):
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
