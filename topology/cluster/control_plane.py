"""The control plane of a cluster: etcd, API server, controller manager and scheduler, without kube-proxy.

All run in one network namespace, which also holds the cable to the nodes: a bridge that is the network between them.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from topology.cluster.files import ClusterFiles
from topology.cluster.kubectl import Kubectl, write_kubeconfig
from topology.cluster.names import (
    API_PORT,
    API_SERVICE,
    CONTROL,
    POD_CIDRS,
    PREFIXES,
    SERVICE_CIDRS,
    NodeName,
    api_url,
)
from topology.cluster.pki import Authority
from topology.errors import LabError
from topology.host import netns, process
from topology.host.links import quiet_namespace, sysctl

UNDERLAY_BRIDGE = "underlay"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_READY_SECONDS = 90.0
_USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "headgate": ("system:serviceaccount:headgate:headgate", "system:serviceaccounts"),
}


class ControlPlane:
    """The control plane in the cluster's folder. `make` and `start` once each; `start_program` again after an end."""

    def __init__(self, folder: Path, files: ClusterFiles) -> None:
        self.folder = folder
        self.files = files
        self.netns = folder / "netns" / "control"
        self.pki = folder / "pki"
        self.logs = folder / "log"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of a user or a node, for use inside the cluster's namespaces."""
        return self.pki / f"{user}.kubeconfig"

    def make(self, nodes: Sequence[NodeName], api_port: int) -> None:
        """Make namespace, network, certificates and kubeconfigs; `api_port` is the API server's on the loopback."""
        netns.create(self.netns)
        with netns.inside(self.netns):
            quiet_namespace()
            run = process.run_program
            run(["ip", "link", "add", UNDERLAY_BRIDGE, "type", "bridge", "forward_delay", "0"])
            for address, prefix in zip(CONTROL, PREFIXES, strict=True):
                flags = ["nodad"] if ":" in address else []
                run(["ip", "addr", "add", f"{address}/{prefix}", "dev", UNDERLAY_BRIDGE, *flags])
            run(["ip", "link", "set", UNDERLAY_BRIDGE, "up"])
            sysctl("ipv4.ip_unprivileged_port_start", 0)
        self.certify(nodes)
        local, admin = self.folder / "kubeconfig", json.loads(self.kubeconfig("admin").read_text(encoding="utf-8"))
        admin["clusters"][0]["cluster"]["server"] = api_url("127.0.0.1", api_port)
        local.touch(mode=0o600)
        local.write_text(json.dumps(admin, indent=1), encoding="utf-8")

    def lead_to(self, cidrs: Sequence[str], addresses: Sequence[str]) -> None:
        """Route ranges of pods to their node. A control plane's machine has such a way as a node of its own network."""
        with netns.inside(self.netns):
            for cidr in cidrs:
                hop = next(one for one in addresses if (":" in one) == (":" in cidr))
                process.run_program(["ip", "route", "replace", cidr, "via", hop])

    def lead_away(self, addresses: Sequence[str]) -> None:
        """Remove the routes through a node."""
        with netns.inside(self.netns):
            for address in addresses:
                family = "-6" if ":" in address else "-4"
                process.run_program(["ip", family, "route", "flush", "via", address])

    def certify(self, nodes: Sequence[NodeName]) -> None:
        """Make certificates, tokens and kubeconfigs, of the nodes too."""
        self.pki.mkdir(mode=0o700)
        authority = Authority(self.pki)
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        authority.sign("apiserver", "kube-apiserver", hosts=[*names, "localhost", "127.0.0.1", *CONTROL, *API_SERVICE])
        authority.sign("kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
        for node in nodes:
            authority.sign(node.name, f"system:node:{node.name}", "system:nodes", [node.name, *node.addresses])
        authority.make_key("service-accounts")
        users = {**_USERS, **{node.name: (f"system:node:{node.name}", "system:nodes") for node in nodes}}
        lines = []
        for user, (name, group) in users.items():
            token = secrets.token_hex(16)
            lines.append(f'{token},{name},{user},"{group}"\n')
            write_kubeconfig(self.kubeconfig(user), api_url(), authority.certificate, token)
        tokens = self.pki / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text("".join(lines), encoding="utf-8")

    def start(self) -> None:
        """Start all programs, and wait until the API server is ready. Raises LabError."""
        etcd = self.start_program("etcd")
        server = self.start_program("kube-apiserver")
        self._wait(server, "kube-apiserver", self._is_ready, etcd)
        self.start_program("kube-controller-manager")
        self.start_program("kube-scheduler")

    def start_program(self, name: str) -> subprocess.Popen[bytes]:
        """Start one of the programs in the control plane's namespace."""
        command = [str(self.files.program(name)), *self.arguments(name)]
        return process.start(self.folder, name, command, netns=self.netns, log=self.logs / f"{name}.log")

    def _is_ready(self) -> bool:
        with netns.inside(self.netns), closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock:
            sock.settimeout(1)
            if sock.connect_ex((CONTROL[0], API_PORT)) != 0:
                return False
        kubectl = Kubectl(self.files.program("kubectl"), self.kubeconfig("admin"))
        with netns.inside(self.netns):
            return kubectl.call("get", "--raw", "/readyz").returncode == 0

    def _wait(
        self, started: subprocess.Popen[bytes], name: str, ready: Callable[[], bool], *others: subprocess.Popen[bytes]
    ) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not ready():
            if any(one.poll() is not None for one in (started, *others)) or time.monotonic() > deadline:
                raise LabError(f"{name} did not become ready; its log is {self.logs / name}.log")
            time.sleep(0.1)

    def arguments(self, name: str) -> list[str]:
        """The arguments of one of PROGRAMS."""
        pki, client = self.pki, "http://127.0.0.1:2379"
        if name == "etcd":
            peer = "http://127.0.0.1:2380"
            return [
                f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", "--unsafe-no-fsync",
                "--log-level=warn",
            ]  # fmt: skip
        if name == "kube-apiserver":
            return [
                f"--etcd-servers={client}", f"--cert-dir={self.folder / 'etcd'}", "--bind-address=0.0.0.0",
                f"--advertise-address={CONTROL[0]}", f"--secure-port={API_PORT}",
                f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key",
                f"--client-ca-file={pki}/ca.crt", f"--kubelet-client-certificate={pki}/kubelet-client.crt",
                f"--kubelet-client-key={pki}/kubelet-client.key", "--kubelet-preferred-address-types=InternalIP",
                f"--service-cluster-ip-range={','.join(SERVICE_CIDRS)}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={pki}/service-accounts.pub",
                f"--service-account-signing-key-file={pki}/service-accounts.key",
                f"--token-auth-file={pki}/tokens.csv", "--authorization-mode=Node,RBAC", "--allow-privileged=true",
            ]  # fmt: skip
        if name == "kube-controller-manager":
            return [
                f"--kubeconfig={self.kubeconfig('controller-manager')}", "--use-service-account-credentials",
                f"--service-account-private-key-file={pki}/service-accounts.key", f"--root-ca-file={pki}/ca.crt",
                "--allocate-node-cidrs=true", f"--cluster-cidr={','.join(POD_CIDRS)}", "--node-cidr-mask-size-ipv6=64",
                f"--service-cluster-ip-range={','.join(SERVICE_CIDRS)}", "--leader-elect=false",
                "--bind-address=127.0.0.1",
            ]  # fmt: skip
        return [f"--kubeconfig={self.kubeconfig('scheduler')}", "--leader-elect=false", "--bind-address=127.0.0.1"]
