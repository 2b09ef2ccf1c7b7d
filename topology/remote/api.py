"""Creates and deletes a lab's objects in a real API server, as `kubectl apply` and `kubectl delete` do.

Replaces kubectl, which is too slow to start hundreds of times, and the kubelet, which reports the status of pods and
nodes.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from topology.errors import LabError
from topology.lab.manifests import Manifest, object_name

FIELD_MANAGER = "headgate-lab"
API_SECONDS = 60.0
# The path of each kind: group and version, plural, and whether it has a namespace.
API_PATHS = {
    "Namespace": ("api/v1", "namespaces", False),
    "Node": ("api/v1", "nodes", False),
    "Pod": ("api/v1", "pods", True),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies", True),
}
REPORTED = ("Node", "Pod")
STATUS_NOT_FOUND, STATUS_INVALID = 404, 422
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"


class ClusterApi:
    """The objects of the API server of a kubeconfig's current context. Supports tokens only."""

    def __init__(self, kubeconfig: Path) -> None:
        try:
            config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
            chosen = _named(config["contexts"], config["current-context"], "context")
            cluster = _named(config["clusters"], chosen["cluster"], "cluster")
            user = _named(config["users"], chosen["user"], "user")
            self._server = str(cluster["server"]).rstrip("/")
            self._token = user["token"] if "token" in user else (kubeconfig.parent / user["tokenFile"]).read_text()
            self._tls = _tls(cluster, kubeconfig.parent)
        except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration, ssl.SSLError) as error:
            raise LabError(f"the kubeconfig {kubeconfig} cannot be used: {error}") from error

    def put(self, objects: Iterable[Manifest]) -> list[str]:
        """Apply objects, with the status that a kubelet would report; returns a line for each. Raises LabError."""
        done = []
        for item in objects:
            path = _path(item)
            applied = {key: value for key, value in item.items() if key != "status"}
            applied["metadata"] = {key: value for key, value in item["metadata"].items() if key != "uid"}
            self._apply(path, applied)
            if item["kind"] in REPORTED and "status" in item:
                # Merged, not applied: server-side apply rejects two addresses of one type (dual stack) as duplicates.
                self._send("PATCH", f"{path}/status", {"status": item["status"]}, MERGE)
            done.append(object_name(item) + " applied")
        return done

    def _apply(self, path: str, applied: Manifest) -> None:
        """Apply one object; a pod is deleted and created again if a running pod cannot have the change."""
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        try:
            self._send("PATCH", path + query, applied, APPLY)
        except LabError as error:
            cause = error.__cause__
            if (
                applied["kind"] != "Pod"
                or not isinstance(cause, urllib.error.HTTPError)
                or cause.code != STATUS_INVALID
            ):
                raise
            self._send("DELETE", path + "?gracePeriodSeconds=0", None)
            self._send("PATCH", path + query, applied, APPLY)

    def delete(self, objects: Iterable[Manifest]) -> list[str]:
        """Delete objects by kind and name; returns a line for each: `deleted` or `not found`."""
        done = []
        for item in objects:
            found = self._send("DELETE", _path(item) + "?gracePeriodSeconds=0", None)
            done.append(object_name(item) + (" not found" if found is None else " deleted"))
        return done

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, form: str = "") -> Any:
        """One request; None if a DELETE finds nothing. Raises LabError."""
        headers = {"Authorization": f"Bearer {self._token.strip()}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = form
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._server}/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=API_SECONDS, context=self._tls) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if method == "DELETE" and error.code == STATUS_NOT_FOUND:
                return None
            raise LabError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')[:500]}") from error
        except OSError as error:
            raise LabError(f"{method} {self._server}/{path}: {error}") from error


def _named(entries: Iterable[Mapping[str, Any]], name: str, what: str) -> Any:
    return next(entry[what] for entry in entries if entry["name"] == name)


def _tls(cluster: Mapping[str, Any], folder: Path) -> ssl.SSLContext | None:
    if not str(cluster["server"]).startswith("https:"):
        return None
    if "certificate-authority-data" in cluster:
        text = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return ssl.create_default_context(cadata=text)
    return ssl.create_default_context(cafile=str(folder / cluster["certificate-authority"]))


def _path(item: Manifest) -> str:
    if item["kind"] not in API_PATHS:
        raise LabError(f"{object_name(item)}: this lab's clusters have {', '.join(API_PATHS)} only")
    group, plural, namespaced = API_PATHS[item["kind"]]
    name = quote(item["metadata"]["name"], safe="")
    if not namespaced:
        return f"{group}/{plural}/{name}"
    return f"{group}/namespaces/{quote(item['metadata']['namespace'], safe='')}/{plural}/{name}"
