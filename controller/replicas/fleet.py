"""What all replicas answer together: each is asked over HTTP for its own part.

The addresses come from the replicas' Leases. A replica whose HTTP listens on loopback can be asked from its own machine
only; the answer names its replica, so that another process at the same address is not taken for it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from controller.base.hub import offload
from controller.config.addresses import parse_host_port
from controller.replicas.member import ReplicaMember
from controller.status.detail_model import ConditionsPart
from controller.status.merged import NO_OWNER, merge_status, merge_waits
from controller.status.model import ReplicaView, StatusView, WaitResult

T = TypeVar("T")
ANSWER_SECONDS = 2.0  # for another replica's part of a status
GRACE_SECONDS = 5.0  # beyond the time that a wait was given
RECHECK_SECONDS = 0.2
ASK_POLL_SECONDS = 0.02
MAX_ANSWER_BYTES = 256 << 20
_STATUS = TypeAdapter(StatusView)
_WAIT = TypeAdapter(WaitResult)
_CONDITIONS = TypeAdapter(ConditionsPart)


class Fleet:
    """The replicas as seen by one of them."""

    def __init__(self, member: ReplicaMember) -> None:
        self._member = member
        self._was_ready = False

    def replicas(self) -> tuple[ReplicaView, ...]:
        """All replicas that have a Lease, by name."""
        return tuple(
            ReplicaView(
                one.lease.member.name,
                one.in_view,
                one.age < one.lease.seconds,
                one.age,
                one.lease.build,
                one.lease.http,
            )
            for one in self._member.members()
        )

    @property
    def name(self) -> str:
        """This replica's name; "" while it is alone."""
        return "" if self._member.alone else self._member.me.name

    @property
    def epoch(self) -> int:
        """The epoch of the view that this replica knows; 0 without one."""
        view = self._member.view
        return view.epoch if view is not None and not self._member.alone else 0

    def not_ready(self, taking_over: int) -> list[str]:
        """Why this replica does not serve its switches yet, a line each; `taking_over` counts them.

        Once it served all, later takeovers do not make it unready: it serves the others meanwhile.
        """
        if lines := self.not_a_member():
            return lines
        self._was_ready = self._was_ready or not taking_over
        return [] if self._was_ready else [f"{taking_over} switches are to be taken over"]

    def not_a_member(self) -> list[str]:
        """Why this replica owns no switches, a line."""
        member = self._member
        if member.alone:
            return []
        if member.replaced:
            return [f"another process is the replica {member.me.name}; give each its own --replica NAME"]
        if member.view is None or not member.view.has(member.me):
            return [f"this replica, {member.me.name}, is no member yet{f': {why}' if (why := _why(member)) else ''}"]
        return []

    def status(self, own: StatusView) -> StatusView:
        """The status of all replicas, from this one's and what the others answer."""
        others = self._ask("/status?local=1", _STATUS.validate_json, ANSWER_SECONDS)
        checked = {
            name: "its HTTP address leads to another process; give each replica --http with an address of its machine"
            if isinstance(found, StatusView) and found.replica != name
            else found
            for name, found in others.items()
        }
        return merge_status(own, checked)

    def conditions(self) -> dict[str, ConditionsPart]:
        """What the other members say of policies of the whole cluster, without those that do not answer."""
        found = self._ask("/conditions", _CONDITIONS.validate_json, ANSWER_SECONDS).items()
        return {name: one for name, one in found if isinstance(one, ConditionsPart) and one.replica == name}

    @property
    def speaks(self) -> bool:
        """Whether this replica is the one that reports to the API server for all: several would contradict each other.

        One that cannot read the Leases does not know whether another one is chosen now.
        """
        member = self._member
        if member.alone:
            return True
        view = member.view
        return not member.reason and view is not None and view.has(member.me) and view.owner("") == member.me.name

    def wait(self, timeout: float, own: Callable[[], WaitResult], own_status: Callable[[], StatusView]) -> WaitResult:
        """Wait for all replicas at a time; `own` waits for this one, `own_status` is its part of the status.

        One that does not answer may be taken out of the view, and others take over from it: that is waited for, too.
        Replicas may know different views for a moment, so in the end every switch must be one's that serves it.
        """
        deadline = time.monotonic() + timeout
        while True:
            mine, others = self._wait(max(0.0, deadline - time.monotonic()), own)
            found = merge_waits(mine, others)
            answered = not any(isinstance(one, str) for one in others.values())
            if found.realized:
                found = self._unserved(own_status())
            elif answered:
                return found
            if found.realized or time.monotonic() >= deadline:
                return found
            time.sleep(RECHECK_SECONDS)

    def _unserved(self, own: StatusView) -> WaitResult:
        """The switches that are connected and that nobody serves."""
        unserved = [one for one in self.status(own).switches if one.openflow_connected and not one.primary]
        lines = tuple(f"{one.node or one.ovsdb} ({one.bridge}): {one.error or NO_OWNER}" for one in unserved)
        return WaitResult(not lines, lines)

    def _wait(self, timeout: float, own: Callable[[], WaitResult]) -> tuple[WaitResult, dict[str, WaitResult | str]]:
        found: dict[str, WaitResult | str] = {}
        path = f"/wait?local=1&timeout={timeout:.3f}"
        asking = threading.Thread(
            target=lambda: found.update(self._ask(path, _WAIT.validate_json, timeout + GRACE_SECONDS)), daemon=True
        )
        asking.start()
        mine = own()
        asking.join(timeout + 2 * GRACE_SECONDS)
        return mine, found

    def _ask(self, path: str, read: Callable[[bytes], T], seconds: float) -> dict[str, T | str]:
        """The answers of all other members, by name; a text is why there is none.

        One that is taken out of the view meanwhile is waited for no longer, and left out.
        """
        found: dict[str, T | str] = {}
        threads: dict[str, threading.Thread] = {}
        calls: dict[str, _Call] = {}
        for one in self._member.members():
            name = one.lease.member.name
            if not one.in_view or one.lease.member == self._member.me:
                continue
            if not one.lease.http:
                found[name] = "it has no HTTP address"
                continue
            call = calls[name] = _Call(one.lease.http, seconds)
            threads[name] = threading.Thread(target=_ask_one, args=(found, name, call, path, read), daemon=True)
            threads[name].start()
        deadline = time.monotonic() + seconds + 1.0
        while time.monotonic() < deadline and (threads.keys() - found.keys()) & self._others():
            time.sleep(ASK_POLL_SECONDS)
        for name in threads.keys() - found.keys():
            calls[name].end()
        return {name: found.get(name, "no answer in time") for name in (threads.keys() | found.keys()) & self._others()}

    def _others(self) -> set[str]:
        return {one.name for one in self.replicas() if one.member and one.name != self._member.me.name}


def _why(member: ReplicaMember) -> str:
    """Why a replica is no member yet, if that is known."""
    if member.reason or not member.waits_for:
        return member.reason
    return f"nobody serves yet, so it waits a moment for {', '.join(member.waits_for)} to be ready"


class _Call:
    """A request to another replica. `end` ends it, so that one that answers byte by byte keeps no thread for ever."""

    def __init__(self, address: str, seconds: float) -> None:
        self.address = address
        host, port = parse_host_port(address, "192.0.2.1:8080")
        self._connection = http.client.HTTPConnection(host, port, timeout=seconds)
        self._sock: socket.socket | None = None  # the connection forgets it where the answer has no length
        self._ended = False

    def end(self) -> None:
        """Nobody waits for the answer any more. From any thread."""
        self._ended = True
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def get(self, path: str) -> bytes:
        """The body of a page. Raises OSError or HTTPException."""
        connection = self._connection
        try:
            connection.connect()
            self._sock = connection.sock
            if self._ended:
                raise TimeoutError
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read(MAX_ANSWER_BYTES)
            if answer.status != http.client.OK:
                raise http.client.HTTPException(f"HTTP {answer.status}")
            return body
        finally:
            connection.close()


def _ask_one(found: dict[str, T | str], name: str, call: _Call, path: str, read: Callable[[bytes], T]) -> None:
    try:
        body = call.get(path)
        found[name] = offload(read, body)
    except (OSError, http.client.HTTPException) as error:
        found[name] = f"{call.address}: {getattr(error, 'strerror', None) or error or type(error).__name__}"
    except ValidationError:
        found[name] = f"{call.address}: it does not answer as this version of Headgate does"
