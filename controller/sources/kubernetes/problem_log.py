"""Logs why a Kubernetes API cannot be read: when a problem begins, when it changes, and when it ends.

Each kind of object fails and recovers on its own. A server that does not answer, or rejects the credentials, fails for
all kinds, and that is logged as one line and not as five. Reading and retrying do not belong here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from controller.sources.kubernetes.stream import FORBIDDEN, NOT_FOUND, UNAUTHORIZED, ApiError

log = structlog.get_logger("headgate")


class FailedRequest(NamedTuple):
    """A request that failed: the HTTP status, 0 where there was no answer, and the server's or the system's message."""

    status: int
    reason: str


class ReadProblemLog:
    """The failed requests of one API server, by the plural of the kind of object. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: dict[str, FailedRequest] = {}
        self._logged: tuple[str, ...] = ()

    def failed(self, server: str, plural: str, error: ApiError) -> None:
        """A kind of object cannot be read."""
        with self._lock:
            self._failed[plural] = FailedRequest(error.status, error.reason)
            self._log_changes(server)

    def recovered(self, server: str, plural: str) -> None:
        """A kind of object can be read again."""
        with self._lock:
            if self._failed.pop(plural, None) is not None:
                self._log_changes(server)

    def _log_changes(self, server: str) -> None:
        now = problem_lines(self._failed)
        new = [line for line in now if line not in self._logged]
        for line in new:
            reason, _, advice = line.partition("\n")
            log.warning("the Kubernetes API cannot be read", server=server, reason=reason, check=advice)
        if self._logged and not now:
            log.info("the Kubernetes API can be read again", server=server)
        self._logged = now


def problem_lines(failed: Mapping[str, FailedRequest]) -> tuple[str, ...]:
    """One text for each cause: the reason, a newline, and what to check.

    A problem of the whole server hides those of single kinds: they follow from it.
    """
    whole = [request for request in failed.values() if request.status in (0, UNAUTHORIZED)]
    if whole:
        worst = max(whole, key=lambda request: (request.status, request.reason))
        return (f"{worst.reason}\n{advice(worst.status, '')}",)
    return tuple(
        f"{plural}: {request.reason}\n{advice(request.status, plural)}" for plural, request in sorted(failed.items())
    )


def advice(status: int, plural: str) -> str:
    """What to check after a request for `plural` failed with this HTTP status (0: no answer)."""
    if status == UNAUTHORIZED:
        return "the token or the client certificate in the credentials: the server does not accept them"
    if status == FORBIDDEN:
        return (
            f"the rights of Headgate's account: it needs get, list and watch of {plural} (deploy/kubernetes/rbac.yaml)"
        )
    if status == NOT_FOUND:
        return f"whether this is a Kubernetes API server: it has no {plural}"
    if status == 0:
        return "the server's address and certificate authority in the credentials, its name in DNS, and that it runs"
    return "the server's own log; Headgate keeps trying"
