"""Why a switch has no OpenFlow session with Headgate, as one of a fixed set of words: the label `reason` of the metric
`headgate_switch_away`. Text that a switch wrote never becomes a label itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

OVSDB = "ovsdb"  # no connection to its OVSDB either, so the cause is unknown
RIVAL = "rival"  # another Headgate writes the bridge
CONTESTED = "contested"  # its node name or datapath id belongs to another OVSDB
NO_CONTROLLER = "no_controller"
ELSEWHERE = "elsewhere"  # no Controller row has an address of this Headgate, as far as it can tell
REFUSED = "refused"
UNREACHABLE = "unreachable"
CLOSED = "closed"  # the connection was made and then closed: by a firewall, TLS, or a limit of Headgate
PROTOCOL = "protocol"  # the TLS or OpenFlow handshake failed
FAILED = "failed"  # the attempt failed in another way
WAITING = "waiting"  # no attempt is known to have failed

# Controller.status:last_error as ovs-vswitchd writes it (ovs-vswitchd.conf.db(5)): strerror(3)'s texts and its own.
_ERRORS = {
    "Connection refused": REFUSED,
    "No route to host": UNREACHABLE,
    "Network is unreachable": UNREACHABLE,
    "Host is unreachable": UNREACHABLE,
    "Network is down": UNREACHABLE,
    "Host is down": UNREACHABLE,
    "Connection timed out": UNREACHABLE,
    "End of file": CLOSED,
    "Connection reset by peer": CLOSED,
    "Broken pipe": CLOSED,
    "Protocol error": PROTOCOL,
}
REASONS = (OVSDB, RIVAL, CONTESTED, NO_CONTROLLER, ELSEWHERE, *dict.fromkeys(_ERRORS.values()), FAILED, WAITING)


class ControllerTarget(Protocol):
    """The columns of a Controller row that decide the reason."""

    @property
    def uuid(self) -> str:
        """The row's UUID."""

    @property
    def target(self) -> str:
        """The OpenFlow target, like `tcp:192.0.2.1:6653`."""


def reason_of_error(text: str) -> str:
    """The reason for a `last_error`; an empty text means no error."""
    return _ERRORS.get(text, FAILED) if text else WAITING


def reason_of_controllers(
    controllers: Iterable[ControllerTarget], leads: Callable[[str], bool], errors: Callable[[str], str]
) -> str:
    """The reason for a bridge without an OpenFlow session.

    `leads` tells whether a target is an address of this Headgate; `errors` gives the `last_error` of a Controller row,
    by its UUID.
    """
    found = sorted(controllers, key=lambda row: row.uuid)
    here = [row for row in found if leads(row.target)]
    if not found:
        return NO_CONTROLLER
    if not here:
        return ELSEWHERE
    return next((reason_of_error(text) for row in here if (text := errors(row.uuid))), WAITING)
