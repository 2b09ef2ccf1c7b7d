"""Room for what arrives at a probe's sockets while its process waits for a processor, so that it loses nothing itself.

And what the kernel has dropped before a switch of the userspace datapath could read it: the switch has not lost that.
"""

from __future__ import annotations

import re
import shutil
import socket
from contextlib import suppress
from pathlib import Path

from topology.host.netns import in_thread, inside
from topology.host.process import run_program

ROOM_BYTES = 8 << 20
_SO_RCVBUFFORCE = 33  # socket(7): beyond net.core.rmem_max, for root
_DROPPED = re.compile(r"skmem:\([^)]*,d(\d+)\)")  # ss(8)


def make_room(sock: socket.socket) -> None:
    """Let much wait in a socket: 200 kB, the default, are some 250 small datagrams."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM_BYTES)
    with suppress(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, ROOM_BYTES)


def dropped_before_switch(netns: Path) -> int:
    """Frames that found no room in the packet sockets of a node's network namespace, since they were opened;
    0 where there is no ss(8) to ask.
    """
    if shutil.which("ss") is None:
        return 0

    def ask() -> str:
        with inside(netns):
            return run_program(["ss", "--packet", "--numeric", "--extended", "--memory"])

    return sum(int(count) for count in _DROPPED.findall(in_thread(ask)))
