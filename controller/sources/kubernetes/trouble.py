"""What keeps a Kubernetes API from being read, said in the log: once when it begins, when it changes, and when it ends.

Each kind of object fails and recovers on its own; a server that does not answer, or does not know us, fails for all of
them, and that is one line and not five. Reading and retrying do not belong here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from controller.sources.kubernetes.stream import FORBIDDEN, NOT_FOUND, UNAUTHORIZED, ApiError

log = structlog.get_logger("headgate")


class FailedRequest(NamedTuple):
    """One request that failed: the HTTP status, 0 where there was no answer, and the server's or the system's words."""

    status: int
    reason: str


class ReadProblemLog:
    """The faults of one API server, by the plural of the kind of object. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[str, FailedRequest] = {}
        self._said: tuple[str, ...] = ()

    def failed(self, server: str, plural: str, error: ApiError) -> None:
        """A kind of object cannot be read."""
        with self._lock:
            self._faults[plural] = FailedRequest(error.status, error.reason)
            self._say(server)

    def ended(self, server: str, plural: str) -> None:
        """It can be read (again)."""
        with self._lock:
            if self._faults.pop(plural, None) is not None:
                self._say(server)

    def _say(self, server: str) -> None:
        now = problem_lines(self._faults)
        new = [line for line in now if line not in self._said]
        for line in new:
            reason, _, advice = line.partition("\n")
            log.warning("the Kubernetes API cannot be read", server=server, reason=reason, check=advice)
        if self._said and not now:
            log.info("the Kubernetes API can be read again", server=server)
        self._said = now


def problem_lines(faults: Mapping[str, FailedRequest]) -> tuple[str, ...]:
    """What is wrong, a line for each cause: the reason, a newline, and what to check.

    A fault of the whole server hides those of single kinds: they follow from it.
    """
    whole = [fault for fault in faults.values() if fault.status in (0, UNAUTHORIZED)]
    if whole:
        worst = max(whole, key=lambda fault: (fault.status, fault.reason))
        return (f"{worst.reason}\n{advice(worst.status, '')}",)
    return tuple(
        f"{plural}: {fault.reason}\n{advice(fault.status, plural)}" for plural, fault in sorted(faults.items())
    )


def advice(status: int, plural: str) -> str:
    """What to check about a fault."""
    if status == UNAUTHORIZED:
        return "the token or the client certificate of the credentials: the server does not know who asks"
    if status == FORBIDDEN:
        return (
            f"the rights of Headgate's account: it needs get, list and watch of {plural} (deploy/kubernetes/rbac.yaml)"
        )
    if status == NOT_FOUND:
        return f"whether this is a Kubernetes API server: it has no {plural}"
    if status == 0:
        return "the server's address and certificate authority in the credentials, its name in DNS, and that it runs"
    return "the server's own log; it is asked again and again"
