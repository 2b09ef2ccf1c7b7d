"""Values of the network's options as operators write them: ranges in CIDR form, and ranges of ports.

The one place where they are parsed. Every error shows what to write instead.
"""

from __future__ import annotations

from controller.config.addresses import parse_host_port
from flows.cluster.model import Key
from flows.cluster.net import Net, host_address_error, parse_address, parse_network, pod_range_error

NODE_PORTS_EXAMPLE = "30000-32767"
DNS_SERVER_EXAMPLE = "10.96.0.10, 10.96.0.10:5353 or [fd00:10:96::a]:53"
DNS_PORT = 53
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def parse_range(text: str) -> Net:
    """A range of addresses in CIDR form. Raises ValueError for anything else, and for a range that no pod can be in."""
    try:
        found = parse_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no range in CIDR form; write it like 10.96.0.0/12 or fd00:10:96::/112") from None
    if error := pod_range_error(found):
        raise ValueError(error)
    return found


def normal_range(text: str) -> str:
    """A range in its normal form, without host bits. Raises ValueError."""
    found = parse_range(text)
    return f"{found}/{found.prefix}" if found.is_host else str(found)


def parse_node_ports(text: str) -> tuple[int, int]:
    """The first and the last port of FIRST-LAST. Raises ValueError."""
    first, dash, last = text.partition("-")
    for part in (first, last):
        if not (dash and part.isascii() and part.isdigit() and len(part) <= 5 and 0 < int(part) < 65536):
            raise ValueError(f"{text!r} is no range of ports; write it like {NODE_PORTS_EXAMPLE}")
    if int(first) > int(last):
        raise ValueError(f"{text!r}: the first port is greater than the last; write it like {NODE_PORTS_EXAMPLE}")
    return int(first), int(last)


def normal_node_ports(text: str) -> str:
    """FIRST-LAST in its normal form. Raises ValueError."""
    first, last = parse_node_ports(text)
    return f"{first}-{last}"


def parse_dns_server(text: str) -> tuple[Net, int]:
    """The address and port of ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. Raises ValueError."""
    try:
        address, port = parse_address(text.removeprefix("[").removesuffix("]")), DNS_PORT
    except ValueError:
        host, port = parse_host_port(text, DNS_SERVER_EXAMPLE, DNS_PORT)
        try:
            address = parse_address(host)
        except ValueError:
            raise ValueError(f"{text!r} is no address of a DNS server; write it like {DNS_SERVER_EXAMPLE}") from None
    if error := host_address_error(address) or ("" if port else "port 0 is none"):
        raise ValueError(error)
    return address, port


def normal_dns_server(text: str) -> str:
    """ADDRESS:PORT in its normal form. Raises ValueError."""
    address, port = parse_dns_server(text)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def parse_service_name(text: str) -> Key:
    """The Service that NAMESPACE/NAME names. Raises ValueError."""
    namespace, _, name = text.partition("/")
    if not all(part and len(part) <= 63 and not set(part) - _NAME_CHARACTERS for part in (namespace, name)):
        raise ValueError(f"{text!r} is no name of a Service; write it like kube-system/kube-dns")
    return Key(namespace, name)


def normal_service(text: str) -> str:
    """NAMESPACE/NAME. Raises ValueError."""
    return str(parse_service_name(text))
