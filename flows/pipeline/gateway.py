"""The link-local names of the modes in which the switch routes: the same on every bridge.

Pods and the node have permanent neighbour entries for them, and routes through them. All lie within 169.254.72.0/24
(RFC 3927), fe80::/64 and fd00:4847::/64 (RFC 4193).
"""

from __future__ import annotations

from flows.cluster.net import Net, parse_address

# The MAC address of every gateway: of each pod's, and of the next hop of the node's routes. Locally administered.
GATEWAY_MAC = 0x0A4847000001

# The source MAC address of what the node is to refuse; all else has GATEWAY_MAC. It is seen on any datapath, as a mark
# of the packet is not, and any address may be refused so without a rule for it on the node.
REFUSED_MAC = 0x0A4847000002


def _both(ipv4: str, ipv6: str) -> tuple[Net, Net]:
    return parse_address(ipv4), parse_address(ipv6)


# The switch itself: the next hop of the node's routes to pods.
SWITCH = _both("169.254.72.1", "fe80::4847:1")
# The source of a node's own request through a Service that comes back to the node.
NODE_HAIRPIN = _both("169.254.72.2", "fd00:4847::2")
# The source of a pod's own request through a Service that comes back to the pod.
POD_HAIRPIN = _both("169.254.72.3", "fd00:4847::3")
# What the node turns its own addresses into, where the port is a node port.
NODE_PORTS = _both("169.254.72.4", "fd00:4847::4")
# The node's own program that answers checks of health check node ports (node/health.py). The port that a check is sent
# to tells it how many ready endpoints the Service has on the node.
HEALTH = _both("169.254.72.5", "fd00:4847::5")
NO_ENDPOINTS = 0xFFFF  # the port that says none
