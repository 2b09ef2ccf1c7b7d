"""The replicas' Leases (coordination.k8s.io/v1) as values, and back: one of each member, and one that has the view.

    headgate-NAME   a member: renewed by its replica; its annotations say where the replica is reached
    headgate        the view: its leaseTransitions are the epoch, an annotation has the members

What is read is untrusted: whatever is not as written here counts as absent. What follows from it must not be decided
here: see `membership`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.config.addresses import AddressError, parse_host_port
from controller.reconcile.ownership import MAX_EPOCH, MAX_MEMBERS, Member, View

VIEW_LEASE = "headgate"
LABELS = {"app.kubernetes.io/name": "headgate"}
SELECTOR = "app.kubernetes.io/name=headgate"
_PREFIX = "headgate.io/"
_KIND = _PREFIX + "lease"  # a label: member or view
_INCARNATION, _READY, _HTTP, _OPENFLOW, _VERSION, _MEMBERS = (
    _PREFIX + name for name in ("incarnation", "ready", "http", "openflow", "version", "members")
)
MAX_TEXT = 300  # characters of a value
LONGEST_LEASE = 300.0  # seconds: a member must not keep its switches for ever by what it says of itself


@dataclass(frozen=True, slots=True)
class MemberLease:
    """A member's Lease. `version` is its resourceVersion, which changes each time that it is renewed.

    `http` and `openflow` are where the replica is reached, empty where it is not; `build` is its version of Headgate.
    """

    member: Member
    seconds: float
    transitions: int = 0
    ready: bool = False
    http: str = ""
    openflow: str = ""
    build: str = ""
    version: str = ""

    @property
    def name(self) -> str:
        """The Lease's name."""
        return member_lease_name(self.member.name)


@dataclass(frozen=True, slots=True)
class ViewLease:
    """The Lease that has the view."""

    view: View
    version: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """All Leases as they were at one time between `began` and `ended` (monotonic clock)."""

    began: float
    ended: float
    members: tuple[MemberLease, ...] = ()
    view: ViewLease | None = None


def member_lease_name(name: str) -> str:
    """The name of a member's Lease."""
    return f"{VIEW_LEASE}-{name}"


def read_leases(body: object, began: float, ended: float) -> Reading:
    """The answer to a list request."""
    items = body.get("items") if isinstance(body, dict) else None
    members: dict[str, MemberLease] = {}
    view: ViewLease | None = None
    for item in items[: 2 * MAX_MEMBERS] if isinstance(items, list) else ():
        try:
            name = item["metadata"]["name"]
            if name == VIEW_LEASE:
                view = _view(item)
            elif (found := _member(item)) is not None and found.name == name and len(members) < MAX_MEMBERS:
                members[name] = found
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return Reading(began, ended, tuple(members[name] for name in sorted(members)), view)


def _text(values: object, key: str) -> str:
    value = values.get(key) if isinstance(values, dict) else None
    return value if isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable() else ""


def _number(value: object, most: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else 0


def _member(item: Mapping[str, Any]) -> MemberLease | None:
    spec, metadata = item["spec"], item["metadata"]
    annotations = metadata.get("annotations")
    member = Member(_text(spec, "holderIdentity"), _text(annotations, _INCARNATION))
    if not member.name or not member.incarnation:
        return None
    return MemberLease(
        member,
        min(float(_number(spec.get("leaseDurationSeconds"), 2**31)) or 1.0, LONGEST_LEASE),
        _number(spec.get("leaseTransitions"), MAX_EPOCH),
        _text(annotations, _READY) == "true",
        _address(_text(annotations, _HTTP)),
        _text(annotations, _OPENFLOW),
        _text(annotations, _VERSION),
        _text(metadata, "resourceVersion"),
    )


def _address(text: str) -> str:
    try:
        return str(parse_host_port(text, "192.0.2.1:8080")) if text else ""
    except AddressError:
        return ""


def _view(item: Mapping[str, Any]) -> ViewLease:
    """The view; without members where it is not readable, so that it is replaced."""
    epoch = _number(item["spec"].get("leaseTransitions"), MAX_EPOCH)
    version = _text(item["metadata"], "resourceVersion")
    annotations = item["metadata"].get("annotations")
    text = annotations.get(_MEMBERS, "") if isinstance(annotations, dict) else ""
    try:
        pairs = json.loads(text[: MAX_MEMBERS * 3 * MAX_TEXT])
        members = {str(name): Member(str(name), str(incarnation)) for name, incarnation in pairs[:MAX_MEMBERS]}
    except (ValueError, TypeError, RecursionError):
        members = {}
    return ViewLease(View(epoch, tuple(members[name] for name in sorted(members))), version)


# -- back to JSON ------------------------------------------------------------------------------------------------------


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def member_json(lease: MemberLease) -> dict[str, Any]:
    """A member's Lease, renewed now. With a `version` it replaces that one, and no other."""
    annotations = {
        _INCARNATION: lease.member.incarnation,
        _READY: "true" if lease.ready else "false",
        _HTTP: lease.http,
        _OPENFLOW: lease.openflow,
        _VERSION: lease.build,
    }
    spec = {
        "holderIdentity": lease.member.name,
        "leaseDurationSeconds": max(1, round(lease.seconds)),
        "leaseTransitions": lease.transitions,
        "renewTime": _now(),
    }
    return _lease(lease.name, "member", annotations, spec, lease.version)


def view_json(view: View, by: Member, version: str) -> dict[str, Any]:
    """The Lease with a view, written by a member. With a `version` it replaces that one, and no other."""
    members = json.dumps([[member.name, member.incarnation] for member in view.members])
    spec = {"holderIdentity": by.name, "leaseTransitions": view.epoch, "acquireTime": _now(), "renewTime": _now()}
    return _lease(VIEW_LEASE, "view", {_MEMBERS: members}, spec, version)


def _lease(
    name: str, kind: str, annotations: Mapping[str, str], spec: Mapping[str, object], version: str
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {**LABELS, _KIND: kind}, "annotations": dict(annotations)}
    if version:
        metadata["resourceVersion"] = version
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": dict(spec)}


def names(members: Sequence[Member]) -> str:
    """Members for log lines."""
    return ", ".join(member.name for member in members) or "none"
