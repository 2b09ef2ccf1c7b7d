"""Two nodes with the whole controller between them: `headgate run --network overlay` reads manifests and both OVSDBs,
and programs the switches. Servers in pods answer with their own name and the client's address; a client stands outside.

What a node's program sets up is made here from its own modules: routes of the node, and its nft table.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from controller.cli import main
from flows.bridge.routing import NetworkMode
from flows.cluster.net import address_text
from flows.pipeline.gateway import SWITCH
from node import host_sysctl
from node.addresses import parse_address, parse_cidr
from node.facts import BridgeFacts
from node.host_names import FAMILIES, HEALTH, OWN_RANGE
from node.host_nft import node_table
from tests.helpers.controller.headgate_process import HOST, Headgate
from tests.helpers.lab.overlay import MTU, Overlay, OverlayNode, OverlayPod, ip
from tests.helpers.ovs.daemons import END_WITH_PARENT
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until
from topology.host import links, netns

SERVICES = ("10.96.0.0/16", "fd00:96::/108")
CLIENT = {4: "192.0.2.9", 6: "2001:db8::9"}
SERVER_PORT = 8080
Document = dict[str, Any]


class Servers:
    """Answers TCP and UDP at port 8080 of pods and nodes with `NAME SOURCE`, until it is stopped."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def open(self, name: str, where: Path) -> None:
        """Serve in a namespace, in both families."""
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with netns.inside(where):
                    made = socket.socket(family, kind)
                if family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(("", SERVER_PORT))
                if kind == socket.SOCK_STREAM:
                    made.listen(64)
                self._selector.register(made, selectors.EVENT_READ, name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # only sockets are registered

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.1):
                one: socket.socket = key.fileobj  # type: ignore[assignment]  # as above
                with suppress(OSError):
                    if one.type == socket.SOCK_DGRAM:
                        asked, source = one.recvfrom(1 << 16)
                        one.sendto(f"{key.data} {source[0]}".encode().ljust(len(asked)), source)  # as long as that
                    else:
                        taken, source = one.accept()
                        with taken:
                            taken.sendall(f"{key.data} {source[0]}".encode())


class ServiceLab(Overlay):
    """`objects` are the documents of Services, slices and policies by name; `apply` has them in force."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "geneve", 4, NetworkMode.OVERLAY)
        self.objects: dict[str, Document] = {}
        self.host_ports: dict[str, list[Document]] = {}  # ports of a pod's container, by its name
        self.servers = Servers()
        self.client = folder / "client"

    # -- making it ---------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """All of it, and everything in force."""
        self.add_nodes()
        for node, name in (("node-1", "x/a"), ("node-1", "x/b"), ("node-2", "x/c"), ("node-2", "x/d")):
            pod = self.add_pod(node, name)
            self.servers.open(name, pod.netns)
        for node_ in self.nodes.values():
            self.servers.open(node_.name, node_.netns)
            self._set_up(node_)
        self._add_client()
        self.servers.start()
        self.stack.callback(self.servers.stop)
        remotes = [word for node_ in self.nodes.values() for word in ("--ovsdb", node_.ovs.remote)]
        ranges = [word for one in SERVICES for word in ("--service-cidr", one)]
        (self.folder / "manifests").mkdir()
        self._write()
        self.run = Headgate(
            "native", self.folder, *remotes, "--network", "overlay", *ranges, listen=False, method="tcp"
        )
        self.stack.callback(self.run.stop)
        self._relay()
        self.run.start()
        for node_ in self.nodes.values():
            self._answer(node_)
        self.wait()

    def add_pod(self, node: str, name: str, neighbors: bool = True) -> OverlayPod:
        pod = super().add_pod(node, name, neighbors)
        where = self.nodes[node]
        ids = [f"external_ids:iface-id={name}", f'external_ids:attached-mac="{pod.mac}"']
        where.ovs.vsctl("set", "Interface", f"p{where.number}{len(where.pods) - 1}", *ids)
        return pod

    def _set_up(self, node: OverlayNode) -> None:
        """What the node's program does beyond `Overlay`: routes of Services, and the nft table."""
        node.ovs.vsctl("set", "Open_vSwitch", ".", f"external_ids:hostname={node.name}")
        with netns.inside(node.netns):
            for key, value in host_sysctl.wanted("br-int", ipv6=False).items():
                links.sysctl(key.replace("/", "."), int(value))
            # Else the node sends a client no more than one ICMP error a second (icmp(7)).
            links.sysctl("ipv4.icmp_ratelimit", 0)
            links.sysctl("ipv6.icmp.ratelimit", 0)
        for version, address in zip((4, 6), HEALTH.values(), strict=True):
            ip(node.netns, "address", "add", f"{address}/{32 if version == 4 else 128}", "dev", "br-int")
        for version, family, services in ((4, FAMILIES[0], SERVICES[0]), (6, FAMILIES[1], SERVICES[1])):
            hop = address_text(version, SWITCH[version == 6].value)
            for to in (services, str(OWN_RANGE[family])):
                ip(node.netns, f"-{version}", "route", "replace", to, "via", hop, "dev", "br-int",
                   *(["onlink"] if version == 4 else []), "src", node.addresses[version])  # fmt: skip
        pods = ("10.244.0.0/16", "fd00:244::/32")
        facts = BridgeFacts(
            "", "br-int", self.datapath_type, "overlay", "geneve", tuple(map(parse_cidr, node.cidrs)),
            tuple(map(parse_cidr, pods)), tuple(map(parse_cidr, SERVICES)),
            tuple(map(parse_address, node.addresses.values())), MTU, (30000, 32767), "",
        )  # fmt: skip
        with netns.inside(node.netns):
            health = subprocess.Popen([*END_WITH_PARENT, sys.executable, "-m", "node", "health"], cwd=ROOT)
            self.stack.callback(health.wait)
            self.stack.callback(health.kill)
            subprocess.run(["nft", "-f", "-"], input=node_table(facts, True), text=True, check=True)

    def _answer(self, node: OverlayNode) -> None:
        """Answer that the node has applied its settings."""
        get = ("--if-exists", "get", "Bridge", "br-int", "external_ids:headgate-revision")
        revision = until(lambda: node.ovs.vsctl(*get).strip().strip('"'), "settings")
        node.ovs.vsctl("set", "Open_vSwitch", ".", f"external_ids:headgate-node-ready={revision}")

    def _add_client(self) -> None:
        """A client on the underlay."""
        first = self.nodes["node-1"]
        netns.create(self.client)
        self.stack.callback(netns.remove, self.client)
        with netns.inside(self.client):
            links.quiet_namespace()
        with netns.inside(first.netns):
            links.make_veth("cl1", "eth0", self.client, 1500)
        ip(first.netns, "link", "set", "cl1", "up")
        self.add_to_underlay(first.netns, first.ovs, "cl1")
        with netns.inside(self.client):
            self.software_checksums("eth0")
        ip(self.client, "link", "set", "eth0", "up")
        for version, address in CLIENT.items():
            ip(self.client, "address", "add", f"{address}/{24 if version == 4 else 64}", "dev", "eth0", "nodad")

    def _relay(self) -> None:
        """Switches reach the controller, which is in another namespace."""
        at = [HOST, self.run.openflow]
        job = [{"netns": str(node.netns), "listen": at, "to": at} for node in self.nodes.values()]
        (self.folder / "relay").write_text(json.dumps(job))
        ready, write = os.pipe()
        command = [*END_WITH_PARENT, sys.executable, "-m", "topology.lab.relay", str(self.folder / "relay"), str(write)]
        relay = subprocess.Popen(command, cwd=ROOT, pass_fds=[write])
        os.close(write)
        self.stack.callback(relay.wait)
        self.stack.callback(relay.kill)
        with open(ready, "rb") as pipe:
            assert pipe.readline() == b"\n"

    # -- objects -----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        documents = [_namespaced("Namespace", "v1", "x", None)]
        for node in self.nodes.values():
            inner = [{"type": "InternalIP", "address": address} for address in node.addresses.values()]
            documents.append(
                _namespaced("Node", "v1", node.name, None)
                | {"spec": {"podCIDRs": list(node.cidrs)}, "status": {"addresses": inner}}
            )
            for pod in node.pods.values():
                addresses = [{"ip": address} for address in pod.addresses.values()]
                one = _namespaced("Pod", "v1", pod.key.name, pod.key.namespace)
                one["metadata"]["labels"] = {"name": pod.key.name}
                containers = [{"name": "c", "ports": self.host_ports.get(str(pod.key), [])}]
                documents.append(
                    one
                    | {
                        "spec": {"nodeName": node.name, "containers": containers},
                        "status": {"phase": "Running", "podIPs": addresses},
                    }
                )
        documents += self.objects.values()
        whole = self.folder / "manifests" / "all.yaml"
        text = "\n---\n".join(map(json.dumps, documents))
        (self.folder / "new").write_text(text)
        (self.folder / "new").rename(whole)

    def apply(self) -> None:
        """Have `objects` in force."""
        self._write()
        self.wait()

    def wait(self) -> None:
        """Wait until the switches have all that the manifests say."""
        assert main(["--server", self.run.url, "status", "--wait", "--timeout", "60"]) == 0, self.run.log[-4000:]

    def add_service(
        self,
        name: str,
        number: int,
        endpoints: Sequence[str],
        not_ready: Sequence[str] = (),
        terminating: Sequence[str] = (),
        **spec: Any,
    ) -> None:
        """A Service with ports 80 of TCP and UDP, the cluster IPs 10.96.0.NUMBER and fd00:96::NUMBER, and node port
        30000 + NUMBER unless its type is ClusterIP. Endpoints are pods, or nodes; `terminating` ones serve still."""
        external = spec.get("type", "ClusterIP") != "ClusterIP"
        ports = [
            {"name": protocol.lower(), "protocol": protocol, "port": 80, "targetPort": SERVER_PORT}
            | ({"nodePort": 30000 + number} if external else {})
            for protocol in ("TCP", "UDP")
        ]
        status = {"status": spec.pop("status")} if "status" in spec else {}
        addresses = [cluster_ip(number, version) for version in (4, 6)]
        self.objects[f"service {name}"] = (
            _namespaced("Service", "v1", name, "x")
            | {"spec": {"clusterIP": addresses[0], "clusterIPs": addresses, "ports": ports, **spec}}
            | status
        )
        for version in (4, 6):
            entries = [self._endpoint(one, version, True, True) for one in endpoints]
            entries += [self._endpoint(one, version, False, False) for one in not_ready]
            entries += [self._endpoint(one, version, False, True) for one in terminating]
            made = _namespaced("EndpointSlice", "discovery.k8s.io/v1", f"{name}-{version}", "x")
            made["metadata"]["labels"] = {"kubernetes.io/service-name": name}
            of = [{"name": one["name"], "protocol": one["protocol"], "port": SERVER_PORT} for one in ports]
            self.objects[f"slice {name}-{version}"] = made | {
                "addressType": f"IPv{version}", "endpoints": entries, "ports": of
            }  # fmt: skip

    def add_host_port(self, pod: str, number: int, host_ip: str = "") -> None:
        """A host port of TCP and UDP, with what the standard plugin portmap makes of it on the pod's node."""
        extra = {"hostIP": host_ip} if host_ip else {}
        self.host_ports.setdefault(pod, []).extend(
            {"protocol": protocol, "containerPort": SERVER_PORT, "hostPort": number, **extra}
            for protocol in ("TCP", "UDP")
        )
        where = next(node for node in self.nodes.values() if any(str(key) == pod for key in node.pods))
        rules = []
        for version, address in self.pod(pod).addresses.items():
            short, to = ("ip", address) if version == 4 else ("ip6", f"[{address}]")
            if not host_ip or (":" in host_ip) == (version == 6):
                only = f"{short} daddr {host_ip} " if host_ip else ""
                matched = f"fib daddr type local {only}meta l4proto {{ tcp, udp }} th dport {number}"
                rules.append(f"meta nfproto ipv{version} {matched} dnat {short} to {to}:{SERVER_PORT}")
        chains = "".join(
            f"chain {hook}_{number} {{ type nat hook {hook} priority -100; {'; '.join(rules)}; }}\n"
            for hook in ("prerouting", "output")
        )
        with netns.inside(where.netns):
            subprocess.run(["nft", "-f", "-"], input=f"table inet portmap {{ {chains} }}", text=True, check=True)

    def _endpoint(self, name: str, version: int, ready: bool, serving: bool) -> Document:
        where = next(node for node in self.nodes.values() if name == node.name or name in map(str, node.pods))
        addresses = where.addresses if name == where.name else self.pod(name).addresses
        conditions = {"ready": ready, "serving": serving, "terminating": not ready}
        return {"addresses": [addresses[version]], "nodeName": where.name, "conditions": conditions}

    def add_policy(self, name: str, pod: str, direction: str, peers: Sequence[str]) -> None:
        """Isolate pod x/POD in a direction, and allow these pods of its namespace, with port 8080 for egress."""
        side, rules = ("from", "ingress") if direction == "Ingress" else ("to", "egress")
        allowed = [{"podSelector": {"matchLabels": {"name": peer}}} for peer in peers]
        ports = [{"protocol": protocol, "port": SERVER_PORT} for protocol in ("TCP", "UDP")]
        self.objects[f"policy {name}"] = _namespaced("NetworkPolicy", "networking.k8s.io/v1", name, "x") | {
            "spec": {
                "podSelector": {"matchLabels": {"name": pod}},
                "policyTypes": [direction],
                rules: [{side: allowed, "ports": ports}] if allowed else [],
            }
        }

    # -- packets -----------------------------------------------------------------------------------------------------

    def pod(self, name: str) -> OverlayPod:
        """A pod by its name `x/NAME`."""
        return next(pod for node in self.nodes.values() for key, pod in node.pods.items() if str(key) == name)

    def place(self, name: str) -> tuple[Path, dict[int, str]]:
        """Namespace and addresses of a pod, a node or the client."""
        if name == "client":
            return self.client, CLIENT
        if name in self.nodes:
            return self.nodes[name].netns, self.nodes[name].addresses
        return self.pod(name).netns, self.pod(name).addresses

    def ask(self, source: str, to: str, number: int, kind: socket.SocketKind, wait: float = 2.0, size: int = 1) -> str:
        """What answers a connection or a datagram of so many bytes: `NAME SOURCE`, `refused`, or `nothing`."""
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with netns.inside(self.place(source)[0]):
            made = socket.socket(family, kind)
        with closing(made):
            return asked(made, to, number, wait, size)

    def check_health(self, source: str, to: str, number: int) -> tuple[int, dict[str, Any]]:
        """Status and body of a health check; 0 where nothing listens."""
        with netns.inside(self.place(source)[0]):
            made = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_STREAM)
        connection = HTTPConnection(to, number)
        with closing(connection):
            made.settimeout(5)
            connection.sock = made
            try:
                made.connect((to, number))
            except ConnectionRefusedError:
                made.close()
                return 0, {}
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            return answer.status, json.load(answer)


def asked(made: socket.socket, to: str, number: int, wait: float = 2.0, size: int = 1) -> str:
    """The same with a socket. A datagram is sent up to three times."""
    datagram = made.type == socket.SOCK_DGRAM
    made.settimeout(wait / 3 if datagram else wait)
    try:
        made.connect((to, number))
        for left in (2, 1, 0) if datagram else (0,):
            if datagram:
                made.send(b"?" * size)
            try:
                return made.recv(1 << 16).decode().rstrip()
            except TimeoutError:
                if not left:
                    return "nothing"
            except OSError as error:
                if error.errno != errno.EMSGSIZE:  # a router told a smaller MTU: sent again in smaller fragments
                    raise
    except TimeoutError:
        return "nothing"
    except ConnectionRefusedError:
        return "refused"
    return "nothing"


def cluster_ip(number: int, version: int) -> str:
    """The cluster IP of the Service with this number."""
    return f"10.96.0.{number}" if version == 4 else f"fd00:96::{number:x}"


def _namespaced(kind: str, version: str, name: str, namespace: str | None) -> Document:
    metadata: Document = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


@contextmanager
def service_lab() -> Iterator[ServiceLab]:
    """Two nodes with two pods each, a client outside, and no Service yet."""
    folder = Path(tempfile.mkdtemp(prefix="hg-services-"))
    made = ServiceLab(folder)
    try:
        made.make()
        yield made
    finally:
        made.stack.close()
        shutil.rmtree(folder, ignore_errors=True)
