"""How long and how much the OpenFlow side puts up with; all times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a session and of a listener.

    `request` counts from the last sign of progress, so that a long dump is no failure. A peer that was silent for
    `echo` is asked for a sign of life, and after `silence` its connection counts as dead.
    """

    request: float = 30.0
    handshake: float = 10.0
    echo: float = 5.0
    silence: float = 15.0
    # How often a session looks at its clocks.
    tick: float = 1.0
    connections: int = 4096
    # Connections that have not said yet which switch they are.
    handshakes: int = 256
    # Bytes of answers that wait for a peer that does not read; past that, we stop reading from it.
    waiting_bytes: int = 1 << 20
    # Requests that wait for a switch.
    waiting_requests: int = 16
