"""A pod that floods, run in it: `ADDRESS PORT SECONDS RATE`. Sends datagrams from 64 ports, and prints how many.

The kernel makes several datagrams of one call (UDP segmentation), so that one process sends what a switch can take.
Uses the standard library only.
"""

from __future__ import annotations

import socket
import sys
import time

PORTS = 64
SEGMENTS = 20  # datagrams of one call
PAYLOAD = 32  # bytes of each
_UDP_SEGMENT = 103  # linux/udp.h


def flood(address: str, port: int, seconds: float, rate: float) -> int:
    """Send `rate` datagrams a second; returns how many were sent."""
    sockets = []
    for _ in range(PORTS):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_UDP, _UDP_SEGMENT, PAYLOAD)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        one.connect((address, port))
        sockets.append(one)
    data, sent, begin = bytes(PAYLOAD * SEGMENTS), 0, time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        if sent >= (now - begin) * rate:
            time.sleep(0.001)
            continue
        for one in sockets:
            try:
                one.send(data)
            except OSError:
                continue  # refused by a full queue: it is not sent
            sent += SEGMENTS
    return sent


if __name__ == "__main__":
    sys.stdout.write(f"{flood(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))}\n")
