"""Addresses as operators and switches write them: HOST:PORT, tcp:HOST:PORT or ssl:HOST:PORT to listen on, and OVSDB
remotes as ovs-vsctl's `--db` takes them (ovsdb(7), "Connection Methods").

The one place where addresses are parsed and formatted. Nothing is resolved or opened here. Every error shows what to
write instead.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

OVSDB_PORT = 6640  # IANA; ovsdb(7) assumes it where a remote names no port
OPENFLOW_PORT = 6653  # IANA
OVSDB_EXAMPLE = f"tcp:0.0.0.0:{OVSDB_PORT}"  # in messages
OPENFLOW_EXAMPLE = f"tcp:0.0.0.0:{OPENFLOW_PORT}"
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")


class AddressError(ValueError):
    """The text is not an address of the expected form. The message shows the form."""


class HostPort(NamedTuple):
    """A host (name or address, without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_port(text: str, example: str, default_port: int | None = None) -> HostPort:
    """Parse HOST:PORT, an IPv6 HOST in brackets; without `default_port`, PORT must be given.

    Port 0 is allowed, for listening. Raises AddressError with `example` in its message.
    """
    host, port_text = _split(text, example)
    _check_host(host, text, example)
    if not port_text:
        if default_port is None:
            raise AddressError(f"{text!r} has no port; write it like {example}")
        return HostPort(host, default_port)
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise AddressError(f"{text!r}: {port_text!r} is no port number from 0 to 65535; write it like {example}")
    return HostPort(host, int(port_text))


def _split(text: str, example: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise AddressError(
                f"{text!r}: the bracket of the IPv6 address must close right before the port; write it like "
                f"[::1]:{OVSDB_PORT}"
            )
        if ":" not in host:
            raise AddressError(f"{text!r}: only an IPv6 address is written in brackets; write it like {example}")
        return host, rest[1:]
    if text.count(":") > 1:
        raise AddressError(f"{text!r}: put an IPv6 address in brackets, like [::1]:{OVSDB_PORT}")
    host, _, port = text.partition(":")
    if not port and host.isdigit():
        raise AddressError(f"{text!r} has no host; write it like {example}")
    return host, port


def _check_host(host: str, text: str, example: str) -> None:
    if not host:
        raise AddressError(f"{text!r} has no host; write it like {example}")
    if ":" in host or host.replace(".", "").isdigit():
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise AddressError(f"{text!r}: {host!r} is no IP address; write it like {example}") from None
        return
    if len(host) > 253 or not all(_LABEL.match(label) for label in host.rstrip(".").split(".")):
        raise AddressError(f"{text!r}: {host!r} is neither an IP address nor a host name; write it like {example}")


def format_address(scheme: str, host: str, port: int) -> str:
    """`SCHEME:HOST:PORT` for tcp or ssl, an IPv6 host in brackets."""
    return f"{scheme}:{HostPort(host, port)}"


def normal_listen(text: str, example: str) -> str:
    """A listener's `tcp:HOST:PORT` or `ssl:HOST:PORT` in its normal form. Raises AddressError."""
    return f"{text.partition(':')[0]}:{parse_listen(text, example)}"


def parse_listen(text: str, example: str) -> HostPort:
    """Parse a listener's `tcp:HOST:PORT` or `ssl:HOST:PORT`; port 0 lets the system choose. Raises AddressError."""
    scheme, colon, rest = text.partition(":")
    if scheme in {"ptcp", "pssl"} and colon:
        raise AddressError(f"{text!r}: leave out the p of {scheme}, and write it like {example}")
    if scheme in {"punix", "unix"} and colon:
        raise AddressError(f"{text!r}: Headgate listens on TCP only, with or without TLS; write it like {example}")
    if scheme not in {"tcp", "ssl"} or not colon:
        raise AddressError(f"{text!r} does not start with tcp: or ssl: ; write it like {example}")
    return parse_host_port(rest, example)


def normal_remote(text: str) -> str:
    """An OVSDB REMOTE in its normal form: `unix:FILE`, `tcp:HOST:PORT` or `ssl:HOST:PORT` (port 6640 when left out).

    Raises AddressError.
    """
    scheme, colon, rest = text.partition(":")
    if scheme in {"ptcp", "pssl", "punix"} and colon:
        raise AddressError(
            f"{text!r} listens instead of connecting; for switches that connect to Headgate use --ovsdb-listen "
            f"tcp:HOST:PORT"
        )
    if scheme == "unix" and colon:
        if not rest:
            raise AddressError(f"{text!r} names no socket; write it like unix:/run/openvswitch/db.sock")
        return text
    if scheme not in {"tcp", "ssl"} or not colon:
        raise AddressError(
            f"{text!r} is no OVSDB remote; write it like unix:/run/openvswitch/db.sock, tcp:192.0.2.1:6640 or "
            "ssl:192.0.2.1:6640"
        )
    address = parse_host_port(rest, f"{scheme}:192.0.2.1:6640", OVSDB_PORT)
    if not address.port:
        raise AddressError(f"{text!r}: nothing can be reached at port 0; write it like {scheme}:192.0.2.1:6640")
    return f"{scheme}:{address}"


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses of both families."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_tls(text: str) -> bool:
    """Whether an address in its normal form is for TLS."""
    return text.startswith("ssl:")


def is_exposed(text: str) -> bool:
    """Whether an address goes over a network in plain text: tcp, and not to this machine itself."""
    scheme, _, rest = text.partition(":")
    return scheme == "tcp" and not is_loopback(parse_host_port(rest, text, OVSDB_PORT).host)


def canonical_address(host: str) -> str:
    """A socket's IP address without its IPv4-mapped form and its scope: `::ffff:10.0.0.1` is `10.0.0.1`.

    Raises ValueError.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
