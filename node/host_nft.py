"""The nftables table `inet headgate`, as text for `nft -f -`: fixed rules, and sets filled with the cluster's ranges.

No rule names a pod, a policy or a Service: those are the switch's. One transaction replaces the whole table.
docs/node.md explains every rule.
"""

from __future__ import annotations

from collections.abc import Iterable

from node.addresses import Cidr, text_of
from node.facts import BridgeFacts
from node.host_names import CABLE, FAMILIES, HAIRPIN_NODE, HEALTH, HEALTH_PORT, NODE_PORTS, REFUSED_MAC

TABLE = "inet headgate"
UNDERLAY_TABLE = "netdev headgate"
_SHORT = dict(zip(FAMILIES, ("ip", "ip6")))
_LONG = dict(zip(FAMILIES, ("ipv4", "ipv6")))
_LOOPBACK = dict(zip(FAMILIES, ("127.0.0.0/8", "::1")))
_LOOPBACK_4 = _LOOPBACK[FAMILIES[0]]


def remove(table: str) -> str:
    """Remove a table, whether there is one or not."""
    return f"table {table}\ndelete table {table}\n"


def underlay_table(interface: str, userspace: bool) -> str:
    """Every packet of the underlay interface goes through the cable to the bridge, and back; the machine's own network
    stack sees it on the bridge's port only. `node.host_underlay` says why. `userspace`: the bridge's datapath.

    At the cable's end on the bridge the userspace datapath reads copies, and the stack would take the packets as well:
    it would answer ARP with that end's own address, and take datagrams to all twice. The datapath reads before this
    hook (packet(7) sockets stand before it in the kernel's netif_receive_skb). The kernel's datapath takes the packets
    themselves, after this hook: what is dropped here it never gets.
    """
    ways = {"to_switch": (interface, CABLE[0]), "from_switch": (CABLE[0], interface)}
    chains = "".join(
        f"    chain {name} {{\n"
        f'        type filter hook ingress device "{here}" priority 0; policy drop;\n'
        f'        fwd to "{there}"\n'
        f"    }}\n"
        for name, (here, there) in ways.items()
    )
    if userspace:
        chains += (
            "    chain not_to_node {\n"
            f'        type filter hook ingress device "{CABLE[1]}" priority 0; policy drop;\n'
            "    }\n"
        )
    return f"{remove(UNDERLAY_TABLE)}table {UNDERLAY_TABLE} {{\n{chains}}}\n"


def node_table(facts: BridgeFacts, masquerade: bool) -> str:
    """The table of a node with these facts."""
    lines = [line for family in FAMILIES for line in _sets(facts, family)]
    lines += _chain("loopback", "type filter hook prerouting priority raw;", _loopback(facts.name))
    lines += _chain("refuse", "type filter hook prerouting priority raw;", _refusals(facts.name))
    if facts.node_ports:
        away = [f'iifname "{facts.name}" return']  # pods' requests to node ports are the switch's alone
        outside = [_node_ports(facts.node_ports, family, not_at=_LOOPBACK[family]) for family in FAMILIES]
        own = [_node_ports(facts.node_ports, FAMILIES[0]), outside[1]]  # an IPv6 answer never comes back to ::1
        lines += _chain("health_checks", "type nat hook prerouting priority dstnat;", _health_checks(facts.name))
        lines += _chain("node_ports_in", "type nat hook prerouting priority dstnat;", away + outside)
        lines += _chain("node_ports_out", "type nat hook output priority -100;", own)
    # Before other tables, such as portmap's, whose masquerading would choose any address of the node.
    lines += _chain("sources", "type nat hook postrouting priority srcnat - 1;", _sources(facts, masquerade))
    body = "".join(f"    {line}\n" for line in lines)
    return f"{remove(TABLE)}table {TABLE} {{\n{body}}}\n"


def _sets(facts: BridgeFacts, family: int) -> Iterable[str]:
    number = _LONG[family][-1]
    yield from _set(f"own_pods_{number}", family, facts.pod_cidrs)
    yield from _set(f"cluster_pods_{number}", family, (*facts.cluster_cidrs, *facts.pod_cidrs))


def _set(name: str, family: int, cidrs: Iterable[Cidr]) -> Iterable[str]:
    ranges = sorted({str(cidr) for cidr in cidrs if cidr.family == family})
    elements = f" elements = {{ {', '.join(ranges)} }};" if ranges else ""
    yield f"set {name} {{ type {_LONG[family]}_addr; flags interval; auto-merge;{elements} }}"


def _chain(name: str, hook: str, rules: Iterable[str]) -> list[str]:
    return [f"chain {name} {{", f"    {hook} policy accept;", *(f"    {rule}" for rule in rules), "}"]


def _refusals(bridge: str) -> list[str]:
    """The switch hands over what asks for a Service without endpoints, at whatever address, and marks it by its source
    MAC address. Before the node's own connection tracking, so that the answer belongs to the connection that asked, and
    not to one of its own."""
    refused = f'iifname "{bridge}" ether saddr {REFUSED_MAC}'
    return [
        f"{refused} meta l4proto tcp reject with tcp reset",
        f"{refused} reject with icmpx type port-unreachable",
    ]


def _loopback(bridge: str) -> list[str]:
    """The kernel setting `route_localnet` of the bridge lets the node's own requests to loopback addresses go to the
    switch, and answers come back. Nothing that comes from the switch has such an address by then: what has is a pod
    that tries to reach what the node offers to itself only. The kernel drops the like with ::1."""
    return [f'iifname "{bridge}" ip {end} {_LOOPBACK_4} drop' for end in ("saddr", "daddr")]


def _node_ports(ports: tuple[int, int], family: int, not_at: str = "") -> str:
    """A request for a node port at any address of this node goes to the switch, which chooses the endpoint."""
    short = _SHORT[family]
    which = f"{short} daddr != {not_at}" if not_at else f"meta nfproto {_LONG[family]}"
    local = f"fib daddr type local {which} meta l4proto {{ tcp, udp, sctp }}"
    return f"{local} th dport {ports[0]}-{ports[1]} dnat {short} to {NODE_PORTS[family]}"


def _health_checks(bridge: str) -> list[str]:
    """A check of a health check node port, as the switch sends it back, goes to what answers it (`node.health`)."""
    rules = []
    for family in FAMILIES:
        to = f"[{HEALTH[family]}]" if ":" in HEALTH[family] else HEALTH[family]
        check = f'iifname "{bridge}" {_SHORT[family]} daddr {HEALTH[family]} meta l4proto tcp'
        rules.append(f"{check} dnat {_SHORT[family]} to {to}:{HEALTH_PORT}")
    return rules


def _sources(facts: BridgeFacts, masquerade: bool) -> list[str]:
    """Which source addresses leave: to the switch only the node's own InternalIP, to outside no pod's."""
    rules = []
    for family in FAMILIES:
        short, number = _SHORT[family], _LONG[family][-1]
        own = [text_of(address) for address in facts.node_ips if len(address) == (4 if number == "4" else 16)]
        if own:
            foreign = f'oifname "{facts.name}" fib saddr type local {short} saddr != {{ {", ".join(own)} }}'
            rules.append(f"{foreign} snat {short} to {own[0]}")
        away = f'oifname != "{facts.name}" {short} saddr'
        rules.append(f"{away} {HAIRPIN_NODE[family]} masquerade fully-random")
        if masquerade:
            rules.append(f"{away} @own_pods_{number} {short} daddr != @cluster_pods_{number} masquerade fully-random")
    return rules
