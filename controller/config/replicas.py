"""What `headgate run` is told of replicas: the name of this one, and for how long Leases last."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass

_DURATION = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)(ms|s|m|)")
_FACTORS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,198}[a-z0-9])?")
_LEFT_OUT = re.compile(r"[^a-z0-9.-]+")
SHORTEST_LEASE, LONGEST_LEASE = 1.0, 300.0  # seconds
POD_NAME_VARIABLE = "POD_NAME"


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """`name` is this replica's, `lease` and `renew` are seconds."""

    name: str
    lease: float
    renew: float


def parse_duration(text: str) -> float:
    """A duration like 5s, 500ms or 2m, in seconds. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration: write it like 5s, 500ms or 2m")
    return float(found[1]) * _FACTORS[found[2]]


def check_duration(text: str) -> str:
    """Raises ValueError where `parse_duration` does."""
    parse_duration(text)
    return text.strip()


def check_replica(name: str) -> str:
    """The name, which is part of a Lease's. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no replica's name: small letters, digits, '-' and '.', at most 200, like node-1")
    return name


def check_lease(lease: str, renew: str) -> None:
    """Raises ValueError where Leases would expire although they are renewed."""
    seconds, interval = parse_duration(lease), parse_duration(renew)
    if not SHORTEST_LEASE <= seconds <= LONGEST_LEASE:
        raise ValueError(f"--lease-duration {lease} is not between {SHORTEST_LEASE:g}s and {LONGEST_LEASE:g}s")
    if not 0.05 <= interval <= seconds / 2:
        raise ValueError(f"--renew-interval {renew} must be at least 50ms, and at most half of the lease of {lease}")


def default_replica() -> str:
    """The pod's name, else the host's, as far as a Lease's name may have it."""
    name = _LEFT_OUT.sub("-", (os.environ.get(POD_NAME_VARIABLE) or socket.gethostname()).lower())[:200].strip("-.")
    return name or "headgate"
