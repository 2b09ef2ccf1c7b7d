"""The OpenFlow target that a switch is given, which targets of an operator lead to this controller, and the path of a
relative OVSDB socket. How addresses are written: see `controller.config.addresses`. No connection is made here.
"""

from __future__ import annotations

import ipaddress
import os
import socket

from controller.config.addresses import OPENFLOW_PORT, format_address, normal_remote, parse_host_port

_WILDCARDS = ("0.0.0.0", "::")


def absolute_remote(remote: str) -> str:
    """An OVSDB remote in its normal form, a relative `unix:PATH` counted from OVS_RUNDIR, as with the OVS tools.

    Raises AddressError.
    """
    text = normal_remote(remote)
    scheme, _, path = text.partition(":")
    if scheme != "unix":
        return text
    return "unix:" + os.path.join(os.environ.get("OVS_RUNDIR", "/var/run/openvswitch"), path)


def controller_target(listen: tuple[str, int], local: str, method: str = "tcp") -> str:
    """The OpenFlow target for a switch: the listener's address, or for a wildcard `local`, this end of its OVSDB
    connection.

    `local` is empty for a unix socket: that switch is on this machine. `method` is tcp or ssl.
    """
    host, port = listen
    if host in _WILDCARDS:
        host = local or ("::1" if host == "::" else "127.0.0.1")
    return format_address(method, host, port)


def is_this_controller(target: str, ours: str, listen: tuple[str, int]) -> bool:
    """Whether a Controller `target` of the operator is this controller: equal to `ours`, or an address of this machine.

    False also for targets that cannot be recognised, such as host names and translated addresses.
    """
    here = _endpoint(target)
    if here is None or target.partition(":")[0] != ours.partition(":")[0]:
        return False
    if here == _endpoint(ours):
        return True
    host, port = here
    return listen[0] in _WILDCARDS and port == listen[1] and _is_own_address(host)


def same_endpoint(one: str, other: str) -> bool:
    """Whether two targets are the same address, however it is written."""
    return one == other or (_endpoint(one) is not None and _endpoint(one) == _endpoint(other))


def is_numeric(target: str) -> bool:
    """Whether a target has an address, and no name that may stand for any."""
    return _endpoint(target) is not None


def _endpoint(target: str) -> tuple[str, int] | None:
    method, _, rest = target.partition(":")
    if method not in ("tcp", "ssl"):
        return None
    try:
        host, port = parse_host_port(rest, target, OPENFLOW_PORT)
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        return None


def _is_own_address(host: str) -> bool:
    """Whether this machine has the address. False for a loopback address, which every machine has."""
    address = ipaddress.ip_address(host)
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # binding sends nothing; it fails for an address of another machine
    except OSError:
        return False
    return True
