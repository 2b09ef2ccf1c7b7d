"""Talking to an Open vSwitch daemon over its control socket, as ovs-appctl does, but over one lasting connection.

ovs-appctl starts a process for each command; here a command costs one round trip, so that a test can inject
thousands of frames a second. Nothing about bridges or frames lives here.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path


class ControlError(Exception):
    """The daemon refused a command, or the connection to it is gone."""


class Control:
    """A connection to the control socket at `path` (JSON-RPC 1.0, ovs-appctl(8))."""

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._number = 0
        self._unread = b""

    def __call__(self, command: str, *arguments: str) -> str:
        """Run one command and return what it prints. Raises ControlError with the daemon's words when it refuses."""
        self._number += 1
        request = {"id": self._number, "method": command, "params": list(arguments)}
        self._socket.sendall(json.dumps(request).encode())
        reply = self._read()
        if reply.get("error") is not None:
            raise ControlError(f"{command}: {str(reply['error']).strip()}")
        return str(reply.get("result") or "")

    def _read(self) -> dict[str, object]:
        while True:
            if self._unread.endswith(b"}"):
                try:
                    reply = json.loads(self._unread)
                except json.JSONDecodeError:
                    pass  # the closing brace stood within the text: the rest of the reply is still to come
                else:
                    self._unread = b""
                    return dict(reply)
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise ControlError("the daemon closed its control socket")
            self._unread += piece

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
