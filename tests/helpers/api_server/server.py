"""A real kube-apiserver with an etcd of its own, which can be killed, restarted and compacted, and kubectl for it.

Each lives in a folder of its own on free ports, and leaves nothing behind. Nothing of Headgate is started here.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.api_server.assets import binary
from tests.helpers.paths import ROOT
from tests.helpers.waiting import free_ports
from topology.lab.manifests import Manifest, object_name
from topology.lab.objects import LabCluster

RBAC = ROOT / "deploy" / "kubernetes" / "rbac.yaml"
ADMIN = "administrator"
PATIENCE = 120.0


class ApiServer:
    """Starts with `with`. `kubeconfig` is the administrator's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "admin.kubeconfig"
        self.etcd_port, self._peers, self.port = free_ports(3)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> ApiServer:
        try:
            self._keys()
            self.start_etcd()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End what was started, last first."""
        for name in reversed(list(self._processes)):
            self._end(name, signal.SIGTERM)

    # -- faults ------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """The API server is gone at once."""
        self._end("kube-apiserver", signal.SIGKILL)

    def start(self) -> None:
        """Start the API server, and return when it is ready."""
        private, public, tokens = (self.folder / name for name in ("sa.key", "sa.pub", "tokens.csv"))
        self._run("kube-apiserver", f"--etcd-servers={self._etcd}", f"--cert-dir={self.folder / 'certs'}",
                  "--bind-address=127.0.0.1", f"--secure-port={self.port}", "--service-cluster-ip-range=10.96.0.0/16",
                  "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={public}",
                  f"--service-account-signing-key-file={private}", f"--token-auth-file={tokens}",
                  "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount")  # fmt: skip
        self.wait()

    def start_etcd(self) -> None:
        """Start etcd; the API server waits for it."""
        around = f"http://127.0.0.1:{self._peers}"
        self._run("etcd", f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={self._etcd}",
                  f"--advertise-client-urls={self._etcd}", f"--listen-peer-urls={around}", "--unsafe-no-fsync",
                  f"--initial-advertise-peer-urls={around}", f"--initial-cluster=default={around}")  # fmt: skip

    def stop_etcd(self) -> None:
        """etcd is gone at once; its data stays."""
        self._end("etcd", signal.SIGKILL)

    def pid(self, name: str) -> int:
        """The process of "etcd" or "kube-apiserver"."""
        return self._processes[name].pid

    def compact(self) -> None:
        """Have etcd forget all history."""
        revision = int(self._gateway("kv/range", {"key": "AA=="})["header"]["revision"])
        self._gateway("kv/compaction", {"revision": str(revision), "physical": True})

    # -- as a user ---------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl as the administrator, with `text` as its standard input. What it says; fails when it fails."""
        done = self.try_kubectl(*arguments, text=text)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def try_kubectl(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """The same; whether it failed is the caller's to look at."""
        command = [binary("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)

    def apply(self, manifests: Iterable[dict[str, Any]]) -> None:
        """`kubectl apply`, for all at once."""
        self.kubectl("apply", "--validate=false", "-f", "-", text=as_list(manifests))

    def apply_status(self, manifests: Iterable[dict[str, Any]]) -> None:
        """What a kubelet would report of these pods and nodes."""
        for manifest in manifests:
            if "status" in manifest:
                meta = manifest["metadata"]
                where = ("-n", meta["namespace"]) if "namespace" in meta else ()
                patch = json.dumps({"status": manifest["status"]})
                kind = manifest["kind"].lower()
                self.kubectl(
                    "patch", kind, meta["name"], *where, "--subresource=status", "--type=merge", f"--patch={patch}"
                )

    def delete(self, manifests: Iterable[dict[str, Any]]) -> None:
        """`kubectl delete`, for all at once; pods go without a kubelet's word."""
        self.kubectl("delete", "--grace-period=0", "--force", "--wait=false", "-f", "-", text=as_list(manifests))

    def get(self, *arguments: str) -> Any:
        """What `kubectl get ... -o json` says."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def credentials(self, folder: Path, port: int | None = None) -> Path:
        """A kubeconfig of the service account of deploy/kubernetes/rbac.yaml, with its token in a file beside it.

        `port` is that of a proxy on the way.
        """
        self.kubectl("apply", "--validate=false", "-f", str(RBAC))
        self.new_token(folder)
        return write_kubeconfig(
            folder / "kubeconfig", port or self.port, self.folder / "certs" / "apiserver.crt", {"tokenFile": "token"}
        )

    def new_token(self, folder: Path) -> None:
        """A new token in place of the one in `folder`, at once, as kubelets exchange them."""
        (folder / ".token").write_text(self.kubectl("create", "token", "headgate", "-n", "headgate"))
        (folder / ".token").rename(folder / "token")

    # -- as what has the objects of a lab ---------------------------------------------------------------------------

    def cluster(self, folder: Path) -> LabCluster:
        """This server for a lab: driven with kubectl, and read with credentials that `folder` gets."""
        return LabCluster(self.credentials(folder), Kubectl(self))

    # -- how ---------------------------------------------------------------------------------------------------------

    @property
    def _etcd(self) -> str:
        return f"http://127.0.0.1:{self.etcd_port}"

    def _gateway(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"{self._etcd}/v3/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def _keys(self) -> None:
        private, public = self.folder / "sa.key", self.folder / "sa.pub"
        subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
        subprocess.run(["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
        (self.folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n')
        authority = self.folder / "certs" / "apiserver.crt"
        write_kubeconfig(self.kubeconfig, self.port, authority, {"token": ADMIN})

    def _run(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [binary(name), *arguments]
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait(self) -> None:
        """Until the API server says that it is ready."""
        end = time.monotonic() + PATIENCE
        said = ""
        while time.monotonic() < end:
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended; the logs are in {self.folder}"
            if (self.folder / "certs" / "apiserver.crt").exists():
                done = self.try_kubectl("get", "--raw", "/readyz")
                said = done.stderr
                if done.stdout == "ok":
                    return
            time.sleep(0.2)
        raise AssertionError(f"kube-apiserver is not ready: {said}; the logs are in {self.folder}")


class Kubectl:
    """Objects of a lab, put into an API server with kubectl."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def put(self, objects: Iterable[Manifest]) -> list[str]:
        """`kubectl apply`, and what a kubelet would report."""
        found = list(objects)
        if found:
            self._server.apply(without_uid(item) for item in found)
            self._server.apply_status(found)
        return [object_name(item) for item in found]

    def delete(self, objects: Iterable[Manifest]) -> list[str]:
        """`kubectl delete`; all of them must be there."""
        found = list(objects)
        if found:
            self._server.delete(found)
        return [object_name(item) for item in found]


def without_uid(item: Manifest) -> Manifest:
    """The object without what only the server gives."""
    return {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "uid"}}


def as_list(manifests: Iterable[dict[str, Any]]) -> str:
    """One document for kubectl."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def write_kubeconfig(path: Path, port: int, authority: Path, user: dict[str, str]) -> Path:
    """A kubeconfig for an API server on this machine."""
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(config))
    return path
