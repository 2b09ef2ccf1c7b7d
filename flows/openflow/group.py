"""An OpenFlow select group as a frozen value. `flows.wire.groups` has its bytes, `flows.wire.text` its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from flows.openflow.actions import Action


@dataclass(frozen=True, slots=True)
class Bucket:
    """One of a group's alternatives. A packet takes it with a probability in proportion to `weight`, 1 to 65535."""

    actions: tuple[Action, ...]
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """A select group: each packet takes one of `buckets`, chosen by a hash of its addresses, protocol and ports.

    `number` is its group id: see `flows.pipeline.group_numbers`. A group without buckets drops. What a bucket changes
    in a packet ends with the bucket: the flow's next action gets the packet as it was before the group.
    """

    number: int
    buckets: tuple[Bucket, ...]


class NatTarget(NamedTuple):
    """Where a bucket translates the destination of connections to, and the conntrack zone that records it. `version` is
    4 or 6, `address` an integer."""

    zone: int
    version: int
    address: int
    port: int
