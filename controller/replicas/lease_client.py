"""Leases over the API: read all, write one if nobody else has written it since. What to write: see `membership`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Protocol

from controller.config.schema import IN_CLUSTER
from controller.reconcile.ownership import MAX_MEMBERS, Member
from controller.replicas.leases import (
    SELECTOR,
    VIEW_LEASE,
    MemberLease,
    Reading,
    ViewLease,
    member_json,
    read_leases,
    view_json,
)
from controller.sources.kubernetes.client import Api
from controller.sources.kubernetes.stream import CONFLICT, NOT_FOUND, ApiError

NAMESPACE = "headgate"  # where Headgate does not run in a pod
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
LONGEST_REQUEST = 2.0  # seconds


class Leases(Protocol):
    """What `member` needs of the API. Each raises ApiError; a conflict is an ApiError with the status CONFLICT."""

    def read(self) -> Reading:
        """All Leases now."""

    def write_member(self, lease: MemberLease) -> None:
        """Make or replace a member's Lease."""

    def write_view(self, view: ViewLease, by: Member) -> None:
        """Make or replace the view."""

    def delete(self, lease: MemberLease) -> None:
        """Delete a member's Lease, if it is still this one."""


class LeaseClient:
    """The Leases of one namespace. `seconds` bounds each request. One thread at a time."""

    def __init__(self, source: str, seconds: float) -> None:
        self._api = Api(source)
        self._seconds = min(seconds, LONGEST_REQUEST)
        self.namespace = _own_namespace() if source == IN_CLUSTER else NAMESPACE
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    def load(self) -> None:
        """Read the credentials. Raises SourceError."""
        self._api.load()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._api.server

    def read(self) -> Reading:
        """All Leases now: the answer is the newest that was agreed on, not a server's cache."""
        began = time.monotonic()
        query = {"labelSelector": SELECTOR, "limit": str(2 * MAX_MEMBERS)}
        body = self._api.get(self._path, query, timeout=self._seconds)
        return read_leases(body, began, time.monotonic())

    def write_member(self, lease: MemberLease) -> None:
        """Make or replace a member's Lease; the namespace, too, where there is none."""
        try:
            self._write(lease.name, member_json(lease), lease.version)
        except ApiError as error:
            if error.status != NOT_FOUND or lease.version:
                raise
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
            with contextlib.suppress(ApiError):  # then the next request says what is wrong
                self._api.send("POST", "/api/v1/namespaces", namespace, timeout=self._seconds)
            self._write(lease.name, member_json(lease), "")

    def write_view(self, view: ViewLease, by: Member) -> None:
        """Make or replace the view."""
        self._write(VIEW_LEASE, view_json(view.view, by, view.version), view.version)

    def _write(self, name: str, body: object, version: str) -> None:
        method, path = ("PUT", f"{self._path}/{name}") if version else ("POST", self._path)
        self._api.send(method, path, body, timeout=self._seconds)

    def delete(self, lease: MemberLease) -> None:
        """Delete a member's Lease, if it is still this one. One that is gone already is no error."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"resourceVersion": lease.version} if lease.version else {},
        }
        try:
            self._api.send("DELETE", f"{self._path}/{lease.name}", options, timeout=self._seconds)
        except ApiError as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() or NAMESPACE
    except (OSError, ValueError):
        return NAMESPACE
