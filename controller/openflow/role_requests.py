"""The role of one session at its switch: requests of it, and what the switch says about it.

Whether to ask for a role, and in which generation, must not be decided here: see `controller.reconcile.roles`.

The role SECONDARY is asked for in two steps: first which generation the switch has seen, then the role in just that
generation, so that the request neither is refused nor raises it. PRIMARY is asked for in the generation of the command;
if the switch has seen a newer one, it is asked for that, and RoleRefused says so. A switch that lets another session
take over reports it (OFPT_ROLE_STATUS), and refuses whatever this one had under way (OFPBRC_IS_SLAVE).

Source: OpenFlow 1.4.1, sections 6.3.7, 7.3.8 and 7.4.4; checked on Open vSwitch 3.1.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

from controller.openflow.messages import OPENFLOW_HEADER, OPENFLOW_VERSION, MessageType
from controller.openflow.xids import Xid
from controller.reconcile.events import Event, RoleChanged, RoleRefused
from flows.wire.errors import CodecError

_ROLE = struct.Struct("!I4xQ")  # role (and padding, or the reason), generation
_NOCHANGE, _EQUAL, _PRIMARY, _SECONDARY = range(4)
_UNDEFINED = (1 << 64) - 1  # the generation of a switch that has seen none
# Of the question before SECONDARY, of SECONDARY, of PRIMARY, of the question after a refusal.
_ROLE_XIDS = frozenset({Xid.ROLE_ASKED, Xid.ROLE_SECONDARY, Xid.ROLE_PRIMARY, Xid.ROLE_REFUSED})
_MAX_ATTEMPTS = 10  # to become SECONDARY, of a switch whose generation changes each time
_ERROR = struct.Struct("!HH")
_ROLE_FAILED, _STALE = 11, 0
_BAD_REQUEST, _IS_SECONDARY = 1, 10


class RoleRequests:
    """The role of one session. `request` may be called from any thread, the rest by the thread that reads.

    `changed` is called with whether the session is primary, whenever that changes.
    """

    def __init__(
        self,
        dpid: int,
        session: int,
        put: Callable[[bytes], object],
        post: Callable[[Event], None],
        changed: Callable[[bool], None],
    ) -> None:
        self._dpid = dpid
        self._session = session
        self._put = put
        self._post = post
        self._changed = changed
        self._lock = threading.Lock()
        self._primary = False
        self._asked: int | None = None  # the generation in which PRIMARY was asked for last
        self._newest = 0
        self._attempts = 0

    def request(self, generation: int | None) -> None:
        """Ask for the role PRIMARY in a generation, or for SECONDARY (None)."""
        with self._lock:
            self._asked, self._attempts = generation, 0
        if generation is None:
            self._put(_role_request(Xid.ROLE_ASKED, _NOCHANGE, 0))
        else:
            self._put(_role_request(Xid.ROLE_PRIMARY, _PRIMARY, generation))

    def reply(self, xid: int, message: bytes) -> None:
        """A role reply. Raises CodecError."""
        role, generation = _read(message)
        if xid == Xid.ROLE_ASKED:
            self._newest = 0 if generation == _UNDEFINED else generation
            self._put(_role_request(Xid.ROLE_SECONDARY, _SECONDARY, self._newest))
        elif xid == Xid.ROLE_REFUSED and self._asked is not None:
            self._post(RoleRefused(self._dpid, self._session, self._asked, generation))
        elif xid in (Xid.ROLE_SECONDARY, Xid.ROLE_PRIMARY):
            self._report(role == _PRIMARY, generation)

    def status(self, message: bytes) -> None:
        """The switch has changed the role: another session is primary. Raises CodecError."""
        role, generation = _read(message)
        self._report(role == _PRIMARY, generation)

    def error(self, xid: int, message: bytes) -> bool:
        """An error of the switch. Returns whether it is about a role request."""
        kind, code = _ERROR.unpack_from(message, OPENFLOW_HEADER.size) if len(message) >= 12 else (0, 0)
        if (kind, code) == (_BAD_REQUEST, _IS_SECONDARY) and self._primary:
            self._report(False, self._newest)
        if xid not in _ROLE_XIDS:
            return False
        if (kind, code) != (_ROLE_FAILED, _STALE):
            return True  # the switch has no roles: it is asked again, and never becomes this replica's
        if xid == Xid.ROLE_SECONDARY and self._attempts < _MAX_ATTEMPTS:
            self._attempts += 1
            self._put(_role_request(Xid.ROLE_ASKED, _NOCHANGE, 0))
        elif xid == Xid.ROLE_PRIMARY:
            self._put(_role_request(Xid.ROLE_REFUSED, _NOCHANGE, 0))
        return True

    def _report(self, primary: bool, generation: int) -> None:
        self._newest = generation
        if primary != self._primary:
            self._primary = primary
            self._changed(primary)
        self._post(RoleChanged(self._dpid, self._session, primary, generation))


def _role_request(xid: int, role: int, generation: int) -> bytes:
    size = OPENFLOW_HEADER.size + _ROLE.size
    return OPENFLOW_HEADER.pack(OPENFLOW_VERSION, MessageType.ROLE_REQUEST, size, xid) + _ROLE.pack(role, generation)


def _read(message: bytes) -> tuple[int, int]:
    if len(message) < OPENFLOW_HEADER.size + _ROLE.size:
        raise CodecError("a role message is truncated")
    role, generation = _ROLE.unpack_from(message, OPENFLOW_HEADER.size)
    return role, generation
