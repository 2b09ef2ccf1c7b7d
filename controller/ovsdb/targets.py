"""How OVSDB remotes and OpenFlow targets are written: parsing, checking and formatting. No connection is made here."""

from __future__ import annotations

import ipaddress
import os
import socket

from controller.config.addresses import canonical_address as canonical_address  # for those who know OVSDB only

OVSDB_PORT = 6640  # IANA, RFC 7047 section 4
OPENFLOW_PORT = 6653  # IANA
_WILDCARDS = ("0.0.0.0", "::")


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """`HOST[:PORT]`, an IPv6 HOST in brackets, as (host without brackets, port). Port 0 is allowed, for listening.

    Raises ValueError for anything else.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not [HOST]:PORT")
        port_text = rest[1:] if rest else str(default_port)
    else:
        host, colon, port_text = text.partition(":")
        port_text = port_text if colon else str(default_port)
    if not host:
        raise ValueError(f"{text!r} names no host")
    if not (port_text.isascii() and port_text.isdigit() and int(port_text) < 65536):
        raise ValueError(f"{port_text!r} is not a port (an IPv6 address stands in brackets)")
    return host, int(port_text)


def stream_name(method: str, host: str, port: int) -> str:
    """`METHOD:HOST:PORT` for tcp or ssl, with brackets around an IPv6 host."""
    return f"{method}:[{host}]:{port}" if ":" in host else f"{method}:{host}:{port}"


def is_tls(text: str) -> bool:
    """Whether an address, of either side, is spoken to in TLS."""
    return text.startswith(("ssl:", "pssl:"))


def parse_remote(text: str) -> str:
    """An OVSDB remote to connect to, as ovs-vsctl's --db takes it, in its complete form: `unix:PATH`, `tcp:HOST[:PORT]`
    or `ssl:HOST[:PORT]`.

    A relative PATH counts from OVS_RUNDIR, as with the OVS tools. Raises ValueError for everything else.
    """
    method, colon, rest = text.partition(":")
    if not colon or not rest:
        raise ValueError(f"OVSDB remote {text!r} is not unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT")
    if method == "unix":
        return "unix:" + os.path.join(os.environ.get("OVS_RUNDIR", "/var/run/openvswitch"), rest)
    if method in ("tcp", "ssl"):
        host, port = split_address(rest, OVSDB_PORT)
        if not port:
            raise ValueError(f"OVSDB remote {text!r} has no port")
        return stream_name(method, host, port)
    raise ValueError(f"OVSDB remote {text!r}: {method!r} is neither unix nor tcp nor ssl")


def parse_listen(text: str) -> tuple[str, int]:
    """Where to listen for managers, `tcp:HOST[:PORT]` or OVS's own `ptcp:[PORT][:HOST]`, as (host, port).

    The same with ssl and pssl. Without a host, ptcp and pssl listen on all IPv4 addresses. Raises ValueError for
    everything else.
    """
    method, colon, rest = text.partition(":")
    if method in ("tcp", "ssl") and rest:
        return split_address(rest, OVSDB_PORT)
    if method in ("ptcp", "pssl") and colon:
        port_text, _, host = rest.partition(":")
        host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"
        return split_address(f"[{host}]:{port_text}" if port_text else f"[{host}]", OVSDB_PORT)
    raise ValueError(f"OVSDB listening address {text!r} is not tcp:HOST:PORT, ssl:HOST:PORT or ptcp:PORT[:HOST]")


def controller_target(listen: tuple[str, int], local: str, method: str = "tcp") -> str:
    """The OpenFlow target a switch is given: where we listen; for a wildcard, `local`, our address towards its OVSDB.

    `local` is empty for a connection over a unix socket: that switch is on this machine. `method` is tcp or ssl.
    """
    host, port = listen
    if host in _WILDCARDS:
        host = local or ("::1" if host == "::" else "127.0.0.1")
    return stream_name(method, host, port)


def leads_to(target: str, ours: str, listen: tuple[str, int]) -> bool:
    """Whether an operator's Controller `target` is this controller: the same as `ours`, or one of our addresses.

    False also stands for "cannot be told", as with host names and translated addresses.
    """
    here = _endpoint(target)
    if here is None or target.partition(":")[0] != ours.partition(":")[0]:
        return False
    if here == _endpoint(ours):
        return True
    host, port = here
    return listen[0] in _WILDCARDS and port == listen[1] and _is_own_address(host)


def _endpoint(target: str) -> tuple[str, int] | None:
    method, _, rest = target.partition(":")
    if method not in ("tcp", "ssl"):
        return None
    try:
        host, port = split_address(rest, OPENFLOW_PORT)
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        return None


def _is_own_address(host: str) -> bool:
    """Whether this machine has the address; a loopback address says nothing, since every machine has it."""
    address = ipaddress.ip_address(host)
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # binding sends nothing; it fails for an address that is not ours
    except OSError:
        return False
    return True
