"""The names and addresses that are the same on every node of Headgate's network.

All are link-local or unique local (RFC 3927, RFC 4193), so no route of a cluster leads to them. docs/node.md
lists them.
"""

from __future__ import annotations

import socket

from node.addresses import Cidr, parse_address, parse_cidr

GATEWAY_MAC = "0a:48:47:00:00:01"
REFUSED_MAC = "0a:48:47:00:00:02"  # the source of what the switch has the node refuse
FAMILIES = (int(socket.AF_INET), int(socket.AF_INET6))
NEXT_HOP = dict(zip(FAMILIES, map(parse_address, ("169.254.72.1", "fe80::4847:1"))))  # the switch
HAIRPIN_NODE = dict(zip(FAMILIES, ("169.254.72.2", "fd00:4847::2")))  # source of a node's request that comes back
NODE_PORTS = dict(zip(FAMILIES, ("169.254.72.4", "fd00:4847::4")))  # destination of node ports on the way to the switch
# What answers checks of health check node ports, for the ready endpoints here. The port that the switch sends to is
# their number, or NO_ENDPOINTS; the node's packet filter turns it into the one where `node.health` listens.
HEALTH = dict(zip(FAMILIES, ("169.254.72.5", "fd00:4847::5")))
HEALTH_PORT = 18471
NO_ENDPOINTS = 0xFFFF
OWN_RANGE: dict[int, Cidr] = dict(zip(FAMILIES, map(parse_cidr, ("169.254.72.0/24", "fd00:4847::/64"))))
UNDERLAY = "br-ul"  # the bridge of the underlay interface, where the userspace datapath needs one
CABLE = ("headgate-ul", "headgate-ul-sw")  # a veth pair between that interface and the bridge; the second is a port
