"""Which nodes do not translate SCTP: those with the userspace datapath, whose conntrack ignores the ports of SCTP."""

from __future__ import annotations

from collections.abc import Sequence

from flows.cluster.model import Key
from flows.services.frontends import named_object

_NAMED = 3  # nodes; of others the number is told


def without_sctp(key: Key, nodes: Sequence[str]) -> str:
    """What the operator must know of an object with ports of SCTP, where these nodes have the userspace datapath."""
    more = len(nodes) - _NAMED
    names = ", ".join(nodes[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    if named_object(key)[0] == "Pod":
        return f"with the userspace datapath pods do not reach host ports of SCTP from their nodes: {names}"
    return f"with the userspace datapath SCTP is refused at nodes: {names}"
