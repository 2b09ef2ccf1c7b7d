"""Values of the network's options as operators write them: ranges in CIDR form, and ranges of ports.

The one place where they are parsed. Every error shows what to write instead.
"""

from __future__ import annotations

from flows.cluster.net import Net, parse_network, pod_range_error

NODE_PORTS_EXAMPLE = "30000-32767"


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
