"""Why a switch has no OpenFlow session with us, as one of a few words. What a peer wrote never becomes one itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controller.ovsdb.bridge_settings import ControllerRow

OVSDB = "ovsdb"  # its OVSDB is away as well, so nothing is known
RIVAL = "rival"  # another Headgate writes the bridge
CONTESTED = "contested"  # what it says it is belongs to another OVSDB
NO_CONTROLLER = "no_controller"
ELSEWHERE = "elsewhere"  # none of its controllers leads here, as far as can be told
REFUSED = "refused"
UNREACHABLE = "unreachable"
CLOSED = "closed"  # the connection was made, and ended: a firewall, TLS, or a limit of ours
PROTOCOL = "protocol"  # TLS or OpenFlow did not begin
FAILED = "failed"  # in another way
WAITING = "waiting"  # no attempt is known to have failed

# What ovs-vswitchd writes into Controller.status:last_error, the words of strerror(3) and its own.
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


def reason_of_error(text: str) -> str:
    """The word for what OVSDB says of an attempt."""
    return _ERRORS.get(text, FAILED) if text else WAITING


def reason_of_controllers(
    controllers: Iterable[ControllerRow], leads: Callable[[str], bool], errors: Callable[[str], str]
) -> str:
    """The word for a bridge whose switch has no session. `errors` is the last error of a Controller, by its uuid."""
    found = sorted(controllers, key=lambda row: row.uuid)
    here = [row for row in found if leads(row.target)]
    if not found:
        return NO_CONTROLLER
    if not here:
        return ELSEWHERE
    return next((reason_of_error(text) for row in here if (text := errors(row.uuid))), WAITING)
