"""How OVSDB remotes and OpenFlow targets are written: parsing, checking and formatting. No connection is made here."""

from __future__ import annotations

import ipaddress
import os
import socket

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


def tcp_name(host: str, port: int) -> str:
    """`tcp:HOST:PORT`, with brackets around an IPv6 host."""
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def parse_remote(text: str) -> str:
    """An OVSDB remote to connect to, as ovs-vsctl's --db takes it: `unix:PATH` or `tcp:HOST[:PORT]`; its complete form.

    A relative PATH counts from OVS_RUNDIR, as with the OVS tools. Raises ValueError for everything else.
    """
    method, colon, rest = text.partition(":")
    if not colon or not rest:
        raise ValueError(f"OVSDB remote {text!r} is not unix:PATH or tcp:HOST:PORT")
    if method == "unix":
        return "unix:" + os.path.join(os.environ.get("OVS_RUNDIR", "/var/run/openvswitch"), rest)
    if method == "tcp":
        host, port = split_address(rest, OVSDB_PORT)
        if not port:
            raise ValueError(f"OVSDB remote {text!r} has no port")
        return tcp_name(host, port)
    if method == "ssl":
        raise ValueError(f"OVSDB remote {text!r}: TLS is not supported")
    raise ValueError(f"OVSDB remote {text!r}: {method!r} is neither unix nor tcp")


def parse_listen(text: str) -> tuple[str, int]:
    """Where to listen for managers, `tcp:HOST[:PORT]` or OVS's own `ptcp:[PORT][:HOST]`, as (host, port).

    Without a host, ptcp listens on all IPv4 addresses. Raises ValueError for everything else.
    """
    method, colon, rest = text.partition(":")
    if method == "tcp" and rest:
        return split_address(rest, OVSDB_PORT)
    if method == "ptcp" and colon:
        port_text, _, host = rest.partition(":")
        host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"
        return split_address(f"[{host}]:{port_text}" if port_text else f"[{host}]", OVSDB_PORT)
    raise ValueError(f"OVSDB listening address {text!r} is not tcp:HOST:PORT or ptcp:PORT[:HOST]")


def controller_target(listen: tuple[str, int], local: str) -> str:
    """The OpenFlow target a switch is given: where we listen; for a wildcard, `local`, our address towards its OVSDB.

    `local` is empty for a connection over a unix socket: that switch is on this machine.
    """
    host, port = listen
    if host in _WILDCARDS:
        host = local or ("::1" if host == "::" else "127.0.0.1")
    return tcp_name(host, port)


def plain_address(host: str) -> str:
    """A socket's address as text that others can use: no IPv4-mapped form, no scope."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def leads_to(target: str, ours: str, listen: tuple[str, int]) -> bool:
    """Whether an operator's Controller `target` is this controller: the same as `ours`, or one of our addresses.

    False also stands for "cannot be told", as with host names and translated addresses.
    """
    here = _tcp_endpoint(target)
    if here is None:
        return False
    if here == _tcp_endpoint(ours):
        return True
    host, port = here
    return listen[0] in _WILDCARDS and port == listen[1] and _is_own_address(host)


def _tcp_endpoint(target: str) -> tuple[str, int] | None:
    method, _, rest = target.partition(":")
    if method != "tcp":
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
