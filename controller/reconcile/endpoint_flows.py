"""Which endpoints of UDP a change of flows takes from a port of a Service, where endpoints have flows and no bucket.

An endpoint's flow moves to another key when others come and go, so the endpoints of a port are compared as sets. See
`group_state`, which flushes the connections to those that are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from flows.openflow.group import NatTarget
from flows.pipeline.cookies import CookieKind, read_cookie
from flows.pipeline.group_numbers import is_udp_group
from flows.pipeline.tables import HASHED_ENDPOINT
from flows.wire.groups import nat_targets_of_flow
from flows.wire.values import Body, FlowKey

Targets = dict[int, set[NatTarget]]  # by the group id of the port


class EndpointChanges(NamedTuple):
    """The endpoints whose flows differ, as the switch has them and as they are desired."""

    before: Targets
    after: Targets


def udp_endpoints(actual: Mapping[FlowKey, Body | None], desired: Mapping[FlowKey, Body]) -> EndpointChanges:
    """The endpoints of UDP among flows that differ: `actual` has those, with None for a flow that is missing."""
    changes = EndpointChanges({}, {})
    for key, body in actual.items():
        if key[0] == HASHED_ENDPOINT.number:
            _add(changes.before, body)
            _add(changes.after, desired.get(key))
    return changes


def _add(targets: Targets, body: Body | None) -> None:
    owner = read_cookie(body.cookie) if body is not None else None
    if body is not None and owner is not None and owner[0] is CookieKind.ENDPOINT and is_udp_group(owner[1]):
        targets.setdefault(owner[1], set()).update(nat_targets_of_flow(body.instructions))
