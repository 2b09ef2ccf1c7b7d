"""Writes Kubernetes Events on policies that are not realized: the only thing that Headgate writes to an API server.

`kubectl describe networkpolicy` shows them beside the policy. There is one event for each reason of a policy; when the
reason recurs or lasts, the count of the event's series grows (API events.k8s.io/v1). Writing is rate-limited, and no
other part of Headgate waits for it.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from controller.base.threads import watched
from controller.peers.token_bucket import TokenBucket
from controller.sources.kubernetes.client import Api
from controller.sources.kubernetes.stream import CONFLICT, NOT_FOUND, ApiError
from controller.sources.kubernetes.write_pause import WritePause
from flows.cluster.model import Key

EVENTS_API = "events.k8s.io/v1"
CONTROLLER = "headgate.dev/controller"
NO_NAMESPACE = "default"  # where the API keeps events on objects outside namespaces
REASON, ACTION = "NotInForce", "Enforce"
MAX_NOTE = 1024  # bytes, a limit of the API
MAX_NAME = 200  # characters of the policy's name in the event's
MAX_BURST, EVENTS_PER_SECOND = 20, 0.5  # a token bucket: its size, and its rate
RECUR_SECONDS = 60.0  # after which a reason that ceased and recurred is written again
POLICY_SECONDS = 10.0  # between two events on one policy
REPEAT_SECONDS = 1800.0  # after which a lasting reason is written again: the server keeps events for an hour
MAX_REMEMBERED_REASONS = 4096  # reasons

log = structlog.get_logger("headgate")


class ObjectReference(NamedTuple):
    """The object that an event is about; `namespace` is "" for one outside namespaces."""

    version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class _Written:
    """The event of one reason: its count, the time.monotonic() of the last write, whether the reason ceased since."""

    count: int
    at: float
    ceased: bool = False


class EventWriter:
    """Writes in a thread of its own. `find` gives the API object of a policy, None if this API server has none."""

    def __init__(self, api: Api, find: Callable[[Key], ObjectReference | None]) -> None:
        self._api = api
        self._find = find
        self._instance = socket.gethostname()[:128] or "headgate"
        self._condition = threading.Condition()
        self._reasons: dict[Key, str] = {}
        self._written: OrderedDict[tuple[Key, str], _Written] = OrderedDict()
        self._last: dict[Key, float] = {}
        self._bucket = TokenBucket(MAX_BURST, EVENTS_PER_SECOND, time.monotonic())
        self._pause = WritePause()
        self._not_before = 0.0
        self._writing = False
        self._stopping = False
        self._thread = watched("kubernetes-events", self._run)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; events that are due are not written."""
        self._thread.release()
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def report(self, reasons: Mapping[Key, str]) -> None:
        """Set the policies that are not realized now, each with the reason in words. Never blocks."""
        with self._condition:
            if reasons == self._reasons:
                return
            self._reasons = dict(reasons)
            for (key, reason), written in self._written.items():
                written.ceased = written.ceased or self._reasons.get(key) != reason
            self._last = {key: at for key, at in self._last.items() if key in self._reasons}
            self._condition.notify_all()

    def idle(self) -> bool:
        """Whether no event is due now."""
        with self._condition:
            due = self._next()
            return not self._writing and (due is None or due[0] > time.monotonic())

    # -- in its own thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._condition:
                due = self._next()
                if self._stopping:
                    return
                if due is None or (wait := due[0] - time.monotonic()) > 0:
                    self._condition.wait(RECUR_SECONDS if due is None else min(wait, RECUR_SECONDS))
                    continue
                _, key, reason = due
                self._bucket.spend(1)
                self._writing = True
            self._write(key, reason)
            self._writing = False

    def _next(self) -> tuple[float, Key, str] | None:
        """The next event to write: its time.monotonic(), policy and reason; None when there is none."""
        now = time.monotonic()
        earliest = max(self._not_before, now + self._bucket.wait(now))
        found = [
            (max(earliest, self._due(key, reason)), key, reason)
            for key, reason in self._reasons.items()
            if self._find(key) is not None
        ]
        return min(found, default=None)

    def _due(self, key: Key, reason: str) -> float:
        rested = self._last.get(key, -POLICY_SECONDS) + POLICY_SECONDS
        written = self._written.get((key, reason))
        if written is None:
            return rested
        return max(rested, written.at + (RECUR_SECONDS if written.ceased else REPEAT_SECONDS))

    def _write(self, key: Key, reason: str) -> None:
        policy = self._find(key)
        if policy is None:
            return
        with self._condition:
            count = self._written[key, reason].count + 1 if (key, reason) in self._written else 1
        try:
            self._send(policy, reason, count)
        except ApiError as error:
            self._failed(error)
            return
        except Exception as error:  # noqa: BLE001 - without this thread no event would be written ever again
            self._failed(ApiError(0, f"an error in Headgate, please report it: {type(error).__name__}: {error}"))
            return
        self._pause.succeeded()
        now = time.monotonic()
        with self._condition:
            self._last[key] = now
            self._written[key, reason] = _Written(count, now, self._reasons.get(key) != reason)
            self._written.move_to_end((key, reason))
            while len(self._written) > MAX_REMEMBERED_REASONS:
                self._written.popitem(last=False)

    def _failed(self, error: ApiError) -> None:
        if not self._pause.failing:
            log.warning("events on policies cannot be written", reason=error.reason)
        self._not_before = time.monotonic() + self._pause.failed(error)

    def _send(self, policy: ObjectReference, reason: str, count: int) -> None:
        """Create an event, or raise the count of an existing one: it has the same name after a restart of Headgate."""
        path = f"/apis/{EVENTS_API}/namespaces/{policy.namespace or NO_NAMESPACE}/events"
        event = self._event(policy, reason)
        name = event["metadata"]["name"]
        if count == 1:
            try:
                self._api.send("POST", path, event)
                return
            except ApiError as error:
                if error.status != CONFLICT:
                    raise
        series = {"count": max(count, 2), "lastObservedTime": event["eventTime"]}
        try:
            self._api.send("PATCH", f"{path}/{name}", {"series": series}, "application/merge-patch+json")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            self._api.send("POST", path, event)  # the server has expired it

    def _event(self, policy: ObjectReference, reason: str) -> dict[str, Any]:
        digest = hashlib.blake2b("\0".join((*policy, reason)).encode(), digest_size=8).hexdigest()
        return {
            "apiVersion": EVENTS_API,
            "kind": "Event",
            "metadata": {
                "namespace": policy.namespace or NO_NAMESPACE,
                "name": f"{policy.name[:MAX_NAME].rstrip('.-')}.{digest}",
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "type": "Warning",
            "reason": REASON,
            "action": ACTION,
            "note": reason.encode()[:MAX_NOTE].decode(errors="ignore"),
            "regarding": {
                "apiVersion": policy.version,
                "kind": policy.kind,
                **({"namespace": policy.namespace} if policy.namespace else {}),
                "name": policy.name,
                "uid": policy.uid,
            },
        }
