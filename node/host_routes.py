"""The node's way to its pods and to Services: everything goes out of the bridge's own port to the switch.

The next hop is the switch, a neighbour that is set for good: the switch routes, so no subnet is on the port's link.
"""

from __future__ import annotations

from node.addresses import Cidr, parse_address, parse_cidr, text_of
from node.errors import NodeError
from node.facts import BridgeFacts
from node.host_names import FAMILIES, GATEWAY_MAC, HEALTH, NEXT_HOP, OWN_RANGE
from node.links import Link, add_address, get_link, list_addresses, list_links, remove_address, set_up
from node.netlink import Netlink
from node.routes import Route, list_routes, put_neighbour, put_route, remove_neighbour, remove_route

# What a cluster cannot have: loopback, link-local, multicast (RFC 6890).
_RESERVED = tuple(map(parse_cidr, ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "fe80::/10", "ff00::/8")))


def source_of(facts: BridgeFacts, family: int) -> bytes:
    """The node's InternalIP of a family, b"" if it has none."""
    size = len(NEXT_HOP[family])
    return next((address for address in facts.node_ips if len(address) == size), b"")


def wanted(facts: BridgeFacts) -> list[Route]:
    """All routes through the bridge's own port. A family without an InternalIP of the node has none, because policy
    would not know the node by any other address. Raises NodeError for a range that cannot be the cluster's."""
    pods = facts.pod_cidrs + (facts.cluster_cidrs if facts.network == "overlay" else ())
    found = {}
    for cidr in (*pods, *facts.service_cidrs):
        _check(cidr, facts)
        if source_of(facts, cidr.family):
            found[cidr] = Route(cidr, NEXT_HOP[cidr.family], source_of(facts, cidr.family))
    for family in FAMILIES:
        if any(route.destination.family == family for route in found.values()):
            found[OWN_RANGE[family]] = Route(OWN_RANGE[family], NEXT_HOP[family], source_of(facts, family))
    return list(found.values())


def _check(cidr: Cidr, facts: BridgeFacts) -> None:
    if not cidr.prefix or any(one.packed in cidr or cidr.packed in one for one in _RESERVED):
        raise NodeError(f"the range {cidr} that the controller gave cannot be a cluster's: see --service-cidr there")
    for address in facts.node_ips:
        if address in cidr:
            raise NodeError(
                f"the range {cidr} that the controller gave contains this node's address {text_of(address)}"
            )


def apply(netlink: Netlink, facts: BridgeFacts) -> None:
    """Set the bridge's own port up, with the mode's MTU, neighbours, routes, and the address at which health checks are
    answered; remove older routes to the switch.

    Raises NodeError, also where an InternalIP is on no interface of this machine.
    """
    _check_addresses(netlink, facts)
    link = get_link(netlink, facts.name)
    if not link.up or link.mtu != facts.mtu:
        set_up(netlink, link, facts.mtu)
    routes = wanted(facts)
    for family in sorted({route.destination.family for route in routes}):
        put_neighbour(netlink, link, NEXT_HOP[family], GATEWAY_MAC)
        answers = parse_address(HEALTH[family])
        if (answers, 8 * len(answers)) not in list_addresses(netlink, link):
            add_address(netlink, link, answers, 8 * len(answers), as_source=False)
    standing = _standing(netlink, link)
    for route in routes:
        if route not in standing:
            put_route(netlink, link, route)
    keep = {route.destination for route in routes}
    for route in standing:
        if route.destination not in keep:
            remove_route(netlink, link, route)


def remove(netlink: Netlink, link: Link) -> None:
    """Remove every route to the switch and the address for health checks, and forget the switch as a neighbour."""
    for answers in map(parse_address, HEALTH.values()):
        remove_address(netlink, link, answers, 8 * len(answers))
    for route in _standing(netlink, link):
        remove_route(netlink, link, route)
    for address in NEXT_HOP.values():
        remove_neighbour(netlink, link, address)


def _standing(netlink: Netlink, link: Link) -> list[Route]:
    return [
        route for family in FAMILIES for route in list_routes(netlink, link, family) if route.via == NEXT_HOP[family]
    ]


def _check_addresses(netlink: Netlink, facts: BridgeFacts) -> None:
    here = {address for link in list_links(netlink) for address, _ in list_addresses(netlink, link)}
    absent = [text_of(address) for address in facts.node_ips if address not in here]
    if absent:
        raise NodeError(
            f"no interface has the address {absent[0]} that the Node's status names as InternalIP: set --node-ip of "
            "the kubelet, or the address"
        )
