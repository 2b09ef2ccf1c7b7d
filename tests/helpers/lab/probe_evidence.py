"""Evidence for a probe with an unexpected outcome: neighbours at both ends, and the switches' cached flows of them.

For the message of a failed test; nothing is decided here.
"""

from __future__ import annotations

import socket

from pyroute2 import IPRoute

from topology.host import netns
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def evidence(lab: Lab, probe: LabProbe) -> list[str]:
    """Lines to read beside the probe's outcome."""
    ends = [lab.endpoints[name] for name in (probe.source, probe.destination)]
    addresses = [end.addresses[probe.family] for end in ends]
    lines = []
    for end, other in zip(ends, reversed(addresses), strict=True):
        with netns.inside(lab.netns(end.name)), IPRoute() as ip:
            found = [
                (entry["state"], entry.get_attr("NDA_LLADDR"))
                for entry in ip.get_neighbours(family=FAMILIES[probe.family])
                if entry.get_attr("NDA_DST") == other
            ]
        lines.append(f"  {end.name} has of {other}: {found or 'no neighbour'} (state, address)")
    wanted = [*addresses, *(end.mac for end in ends)]
    for name, node in lab.nodes.items():
        cached = node.appctl("dpctl/dump-flows", "-m").splitlines()
        lines += [f"  {name}: {line}" for line in cached if any(one in line for one in wanted if one)]
    return lines
