"""OpenFlow's reserved ofports, and the largest ofport that Open vSwitch gives a port."""

from __future__ import annotations

# In 16 bits, as output:reg takes them (ovs-actions(7)) and OVSDB has LOCAL's ofport; and in 32 bits, as in_port does.
IN_PORT_16 = 0xFFF8
IN_PORT_32 = 0xFFFFFFF8
LOCAL_16 = 0xFFFE
LOCAL_32 = 0xFFFFFFFE
CONTROLLER_32 = 0xFFFFFFFD
# The largest ofport but for LOCAL's: ofport_request takes 1 to 65,279 (ovs-vswitchd.conf.db(5)), as OpenFlow 1.0
# reserves the numbers from 0xff00 on.
MAX_OFPORT = 0xFEFF
