"""OpenFlow's reserved port numbers, and the largest number that OVS gives a port."""

from __future__ import annotations

# OpenFlow's LOCAL in 16 bits, which output:reg takes (ovs-actions(7)), and in 32 bits, as in_port has it.
LOCAL_16 = 0xFFFE
LOCAL_32 = 0xFFFFFFFE
IN_PORT_32 = 0xFFFFFFF8
IN_PORT_16 = 0xFFF8
# Where a copy of a packet goes to the controller, and how much of it: enough for addresses, ARP, or an advertisement.
CONTROLLER_32 = 0xFFFFFFFD
MAX_OFPORT = 0xFEFF
