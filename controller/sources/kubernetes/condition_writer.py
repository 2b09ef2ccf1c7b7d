"""Writes the conditions of policies of the whole cluster into their status: `Accepted` and `Realized`.

They are applied by the server (fieldManager `headgate`), so conditions of others stay, and only when one differs from
what the object has. Which conditions a policy should have is decided in `controller.status`. Writing is rate-limited,
and nothing waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from controller.base.threads import watched
from controller.peers.token_bucket import TokenBucket
from controller.sources.kubernetes.client import Api
from controller.sources.kubernetes.event_writer import ObjectReference
from controller.sources.kubernetes.stream import NOT_FOUND, ApiError
from controller.sources.kubernetes.write_pause import WritePause
from controller.status.policy_conditions import PolicyConditions
from flows.cluster.model import Key

MANAGER = "headgate"
MAX_MESSAGE = 1024  # bytes; the API takes 32 KiB
MAX_BURST, WRITES_PER_SECOND = 50, 5.0  # a token bucket: its size, and its rate
LOOK_SECONDS = 30.0  # without a report, between two looks for objects that others changed
APPLY = "application/apply-patch+yaml"

log = structlog.get_logger("headgate")


class FoundObject(NamedTuple):
    """An object and its resourceVersion."""

    reference: ObjectReference
    version: int


class ConditionWriter:
    """Writes in a thread of its own. `find` gives the API object of a policy, None if this API server has none."""

    def __init__(self, api: Api, find: Callable[[Key], FoundObject | None]) -> None:
        self._api = api
        self._find = find
        self._condition = threading.Condition()
        self._wanted: dict[Key, PolicyConditions] = {}
        self._known: dict[Key, tuple[PolicyConditions, int]] = {}  # as written or found, with the resourceVersion
        self._bucket = TokenBucket(MAX_BURST, WRITES_PER_SECOND, time.monotonic())
        self._pause = WritePause()
        self._stopping = False
        self._thread = watched("kubernetes-conditions", self._run)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._thread.release()
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def report(self, wanted: Mapping[Key, PolicyConditions]) -> None:
        """Set the conditions that all policies of the whole cluster should have now. Never blocks."""
        with self._condition:
            self._wanted = dict(wanted)
            self._known = {key: known for key, known in self._known.items() if key in self._wanted}
            self._condition.notify_all()

    # -- in its own thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._condition:
                if self._stopping:
                    return
                due = self._due()
                if not due:
                    self._condition.wait(LOOK_SECONDS)
                    continue
            pause = 0.0
            for key, wanted, found in due:
                self._bucket.spend(1)
                pause = max(self._write(key, wanted, found), self._bucket.wait(time.monotonic()))
                if pause:
                    break
            if pause:
                with self._condition:
                    if not self._stopping:
                        self._condition.wait_for(lambda: self._stopping, pause)

    def _due(self) -> list[tuple[Key, PolicyConditions, FoundObject]]:
        """The policies whose object has other conditions, or may have: it changed since it was written."""
        found = []
        for key, wanted in self._wanted.items():
            there = self._find(key)
            if there is not None and self._known.get(key) != (wanted, there.version):
                found.append((key, wanted, there))
        return found

    def _write(self, key: Key, wanted: PolicyConditions, found: FoundObject) -> float:
        """Write the conditions of one policy where they differ. Returns the seconds to wait before the next."""
        try:
            self._apply(wanted, found.reference)
        except ApiError as error:
            if error.status != NOT_FOUND:  # else it is deleted, and the watch will say so
                return self._failed(error)
        except Exception as error:  # noqa: BLE001 - without this thread no condition would be written ever again
            return self._failed(ApiError(0, f"an error in Headgate, please report it: {type(error).__name__}: {error}"))
        self._pause.succeeded()
        with self._condition:
            self._known[key] = wanted, found.version
        return 0.0

    def _failed(self, error: ApiError) -> float:
        if not self._pause.failing:
            log.warning("conditions of policies cannot be written", reason=error.reason)
        return self._pause.failed(error)

    def _apply(self, wanted: PolicyConditions, policy: ObjectReference) -> None:
        path = f"/apis/{policy.version}/{policy.kind.lower().removesuffix('y')}ies/{policy.name}"
        there = self._api.get(path, {})
        metadata, status = there.get("metadata") or {}, there.get("status") or {}
        if wanted.generation and metadata.get("generation") != wanted.generation:
            return  # it was changed since: nothing is known of what it is now
        before = {one.get("type"): one for one in status.get("conditions") or () if isinstance(one, dict)}
        after = [_condition(one, before.get(one["type"]), metadata.get("generation")) for one in _conditions(wanted)]
        if all(one == before.get(one["type"]) for one in after):
            return
        body = {
            "apiVersion": policy.version,
            "kind": policy.kind,
            "metadata": {"name": policy.name},
            "status": {"conditions": after},
        }
        self._api.send("PATCH", f"{path}/status?fieldManager={MANAGER}&force=true", body, APPLY)


def _conditions(wanted: PolicyConditions) -> list[dict[str, Any]]:
    accepted, realized = not wanted.problems, not wanted.pending and not wanted.problems
    return [
        {
            "type": "Accepted",
            "status": str(accepted),
            "reason": "Accepted" if accepted else "Invalid",
            "message": _short(wanted.problems),
        },
        {
            "type": "Realized",
            "status": str(realized),
            "reason": "Realized" if realized else "Pending" if accepted else "Invalid",
            "message": _short(wanted.pending or wanted.problems),
        },
    ]


def _condition(wanted: dict[str, Any], before: dict[str, Any] | None, generation: object) -> dict[str, Any]:
    """The condition with the generation that it is of, and the time since when it has its status."""
    since = before.get("lastTransitionTime") if before and before.get("status") == wanted["status"] else None
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    of = {"observedGeneration": generation} if isinstance(generation, int) else {}
    return {**wanted, **of, "lastTransitionTime": since or now}


def _short(text: str) -> str:
    return text.encode()[:MAX_MESSAGE].decode(errors="ignore")
