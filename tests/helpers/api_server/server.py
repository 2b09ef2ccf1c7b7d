"""A real kube-apiserver with an etcd of its own, which can be killed, restarted and compacted, and kubectl for it.

Each lives in a folder of its own on free ports, and leaves nothing behind. Nothing of Headgate is started here.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.control_plane import ControlPlane, write_kubeconfig
from tests.helpers.api_server.assets import binary
from tests.helpers.paths import ROOT
from topology.lab.manifests import Manifest, object_name
from topology.lab.objects import LabCluster

RBAC = ROOT / "deploy" / "kubernetes" / "rbac.yaml"


class ApiServer(ControlPlane):
    """Starts with `with`. `kubeconfig` is the administrator's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, binary)

    def __enter__(self) -> ApiServer:
        super().__enter__()
        return self

    def compact(self) -> None:
        """Have etcd forget all history."""
        revision = int(self.gateway("kv/range", {"key": "AA=="})["header"]["revision"])
        self.gateway("kv/compaction", {"revision": str(revision), "physical": True})

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
        return write_kubeconfig(folder / "kubeconfig", port or self.port, self.authority, {"tokenFile": "token"})

    def new_token(self, folder: Path) -> None:
        """A new token in place of the one in `folder`, at once, as kubelets exchange them."""
        (folder / ".token").write_text(self.kubectl("create", "token", "headgate", "-n", "headgate"))
        (folder / ".token").rename(folder / "token")

    # -- as what has the objects of a lab ---------------------------------------------------------------------------

    def cluster(self, folder: Path) -> LabCluster:
        """This server for a lab: driven with kubectl, and read with credentials that `folder` gets."""
        return LabCluster(self.credentials(folder), Kubectl(self))


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
