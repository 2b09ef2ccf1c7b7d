"""Hands a message of the handshake to os-ken, as os-ken's own receive loop would.

Must not live here: messages after the handshake, which `receiver` handles without os-ken.
"""

from __future__ import annotations

from os_ken import ofproto
from os_ken.controller import ofp_event
from os_ken.controller.controller import Datapath

from controller.openflow.messages import OPENFLOW_VERSION


def to_os_ken(datapath: Datapath, version: int, kind: int, xid: int, message: bytes) -> None:
    """Parse a message and call os-ken's handlers for it. Raises whatever os-ken's parsers raise.

    A hello of a newer version is read like OpenFlow 1.4's, as it has the same format.
    """
    modules = ofproto.get_ofp_modules()
    _, parser = modules.get(version, modules[OPENFLOW_VERSION])
    parsed = parser.msg_parser(datapath, version, kind, len(message), xid, message)
    event = ofp_event.ofp_msg_to_ev(parsed)
    for handler in list(datapath.ofp_brick.get_handlers(event, datapath.state)):
        handler(event)
