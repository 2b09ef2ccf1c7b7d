"""What a spec runs on a cluster: pods, Services and policies in a namespace of its own, and connections among them."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.helpers.waiting import until
from topology.cluster.cluster import Cluster
from topology.cluster.files import AGNHOST_IMAGE
from topology.host import netns

WEB, UDP, SCTP = 8080, 8081, 8082
SCHEDULE_SECONDS = 180.0
# Connects again and again; when it gets any line, prints how many connections came about, and what each other one met.
_TRAFFIC = """
import json, select, socket, sys, time
host, port, failed, good = sys.argv[1], int(sys.argv[2]), [], 0
while not select.select([sys.stdin], [], [], 0.02)[0]:
    began, step = time.time(), "connect"
    try:
        with socket.create_connection((host, port), 5) as sock:
            step = "answer"
            sock.settimeout(5)
            sock.sendall(b"GET /hostname HTTP/1.0\\r\\n\\r\\n")
            if not sock.recv(1000):
                raise OSError("ended without an answer")
            good += 1
    except OSError as error:
        clock = time.strftime("%H:%M:%S", time.gmtime(began))
        failed.append(f"{clock} {step} after {time.time() - began:.2f} s: {error!r}")
print(json.dumps([good, failed]))
"""


class Traffic:
    """How many connections came about, and for each of the others when and how it failed; after the traffic's end."""

    def __init__(self) -> None:
        self.good = 0
        self.failed: list[str] = []


class Workload:
    """One namespace. Pods are agnhost's netexec, which serves HTTP on WEB and UDP on UDP."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.namespace = f"spec-{uuid.uuid4().hex[:8]}"
        self.kubectl = cluster.kubectl
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}, bare=True)

    def delete(self) -> None:
        """Delete the namespace, and wait until its pods are gone."""
        self.kubectl.run("delete", "namespace", self.namespace, "--wait=true", seconds=SCHEDULE_SECONDS)

    def apply(self, *objects: Mapping[str, Any], bare: bool = False) -> None:
        """Apply objects, in this namespace unless `bare`."""
        items = [
            item if bare else {**item, "metadata": {**item["metadata"], "namespace": self.namespace}}
            for item in objects
        ]
        self.kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def pod(self, name: str, node: str = "", **changes: Any) -> None:
        """Create a pod, on `node` if given; `changes` are fields of its spec. See `wait_ready`."""
        probe = {"httpGet": {"path": "/healthz", "port": WEB}, "periodSeconds": 1}
        container = {
            "name": "web",
            "image": AGNHOST_IMAGE,
            "args": ["netexec", f"--http-port={WEB}", f"--udp-port={UDP}"],
            "readinessProbe": probe,
            **changes.pop("container", {}),
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1, **changes}
        if node:
            spec["nodeName"] = node
        self.apply(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"name": name}}, "spec": spec}
        )

    def wait_ready(self, *names: str, seconds: float = SCHEDULE_SECONDS) -> None:
        """Wait until these pods are ready, else all."""
        which = [f"pod/{name}" for name in names] or ["pod", "--all"]
        self.kubectl.run("-n", self.namespace, "wait", "--for=condition=Ready", f"--timeout={seconds:g}s", *which,
                         seconds=seconds + 10)  # fmt: skip

    def addresses(self, pod: str) -> list[str]:
        """A pod's addresses, IPv4 first."""
        return [one["ip"] for one in self.kubectl.get("-n", self.namespace, "pod", pod)["status"]["podIPs"]]

    def service(self, name: str, selector: str, **spec: Any) -> dict[str, Any]:
        """Create a Service of both families before the pod `selector`; its spec as the API server completed it."""
        ports = spec.pop("ports", [{"name": "web", "port": 80, "targetPort": WEB}])
        full = {"ipFamilyPolicy": "PreferDualStack", "selector": {"name": selector}, "ports": ports, **spec}
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": full})
        return dict(self.kubectl.get("-n", self.namespace, "service", name)["spec"])

    def isolate(self, pod: str, *peers: str) -> None:
        """Apply the policy POD, which lets these pods reach the pod, and nobody else."""
        rules = [{"from": [{"podSelector": {"matchLabels": {"name": peer}}} for peer in peers]}] if peers else []
        spec = {"podSelector": {"matchLabels": {"name": pod}}, "policyTypes": ["Ingress"], "ingress": rules}
        meta = {"name": pod}
        self.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec})

    # Connections

    def reaches(self, pod: str, host: str, port: int = 80, protocol: str = "tcp") -> bool:
        """Whether a pod can connect; one attempt of 3 s."""
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        connect = ["/agnhost", "connect", f"--protocol={protocol}", "--timeout=3s", where]
        return self.kubectl.exec(self.namespace, pod, *connect).returncode == 0

    def refusal(self, pod: str, host: str, port: int = 80) -> str:
        """What agnhost says of a connection that does not come about: TIMEOUT, REFUSED, ..."""
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        done = self.kubectl.exec(self.namespace, pod, "/agnhost", "connect", "--timeout=3s", where)
        return done.stderr.splitlines()[0].strip() if done.returncode else ""

    def ask(self, pod: str, host: str, port: int, path: str) -> str:
        """The answer to an HTTP request of a node or, with pod "", of the machine outside: its text, "" if none."""
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
        code = "import sys,urllib.request as r; print(r.urlopen(sys.argv[1], timeout=3).read().decode())"
        command = [sys.executable, "-c", code, url]
        if pod:
            return next(node for node in self.cluster.nodes if node.name == pod).run(*command).stdout.strip()
        with netns.inside(self.cluster.control.netns):
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    @contextmanager
    def traffic(self, host: str, port: int = 80, node: str = "n2") -> Iterator[Traffic]:
        """New connections from a node all the time, until the block ends."""
        source = next(one for one in self.cluster.nodes if one.name == node)
        command = source.enter_command(sys.executable, "-c", _TRAFFIC, host, str(port))
        running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        found = Traffic()
        try:
            yield found
        finally:
            output, _ = running.communicate("\n", timeout=30)
            found.good, found.failed = json.loads(output)


def each(found: Sequence[Any], what: str) -> None:
    """Fail unless all are true; `what` names them."""
    assert all(found), f"{what}: {list(found)}"


def eventually(check: Any, what: str, seconds: float = 60.0) -> None:
    """Wait until `check()` holds: for what the API server, a kubelet and the controller pass on."""
    until(check, what, seconds)
