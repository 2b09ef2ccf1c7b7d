"""Group ids: which of a switch's groups are Headgate's, and the check of what a group's buckets may do.

A group has no cookie, so the high byte of its id tells Headgate's groups from foreign ones; the next bit says that its
buckets are endpoints of UDP, whose connections must not outlive them. Example: 0x48000007 is Headgate's group number 7,
0x48800007 is number 7 of UDP; group 7 is foreign, and never changed.
"""

from __future__ import annotations

from flows.openflow.actions import Ct, Resubmit
from flows.openflow.group import Group
from flows.pipeline.table import Table
from flows.pipeline.tables import TABLES_BY_NUMBER, PipelineError

GROUP_PREFIX = 0x48
_PREFIX_SHIFT = 24  # group ids have 32 bits, and those from 0xffffff01 on are reserved (OpenFlow 1.4.1, 7.2.1)
GROUP_NUMBER_BITS = 23
_UDP = 1 << GROUP_NUMBER_BITS


def group_id(number: int, udp: bool = False) -> int:
    """The group id of a number. Raises ValueError where it is wider than GROUP_NUMBER_BITS."""
    if number < 0 or number >> GROUP_NUMBER_BITS:
        raise ValueError(f"group number {number} is wider than {GROUP_NUMBER_BITS} bits")
    return GROUP_PREFIX << _PREFIX_SHIFT | (_UDP if udp else 0) | number


def is_our_group(group: int) -> bool:
    """Whether a group id is one of Headgate's."""
    return group >> _PREFIX_SHIFT == GROUP_PREFIX


def is_udp_group(group: int) -> bool:
    """Whether a group id is one of Headgate's for endpoints of UDP."""
    return is_our_group(group) and bool(group & _UDP)


def check_group(group: Group, used_by: Table) -> Group:
    """The group itself, where `used_by`, the table whose flows send to it, leads to all that its buckets lead to.

    Raises PipelineError.
    """
    if not is_our_group(group.number):
        raise PipelineError(f"group {group.number:#x} has an id that is not Headgate's")
    for action in (action for bucket in group.buckets for action in bucket.actions):
        if isinstance(action, Ct | Resubmit) and action.table is not None:
            target = TABLES_BY_NUMBER.get(action.table)
            if target is None or target.name not in used_by.leads_to:
                raise PipelineError(f"a group of table {used_by.name} leads to table {action.table}")
    return group
