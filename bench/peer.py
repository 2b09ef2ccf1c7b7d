"""One end of a TCP measurement, run in a pod: `serve PORT`, `stream ADDRESS PORT SECONDS`, `connect ADDRESS PORT
SECONDS`. Prints bytes per second, or connections per second. Uses the standard library only.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

_CHUNK = 1 << 20


def serve_peer(port: int) -> None:
    """Serve: after a first byte `s` read until the end, after any other send one byte and close."""
    server = socket.create_server(("", port), backlog=1024)
    while True:
        connection, _ = server.accept()
        if connection.recv(1) != b"s":
            connection.sendall(b"a")
            connection.close()
            continue
        threading.Thread(target=_read, args=(connection,), daemon=True).start()


def _read(connection: socket.socket) -> None:
    buffer = bytearray(_CHUNK)
    while connection.recv_into(buffer):
        pass
    connection.close()


def stream(address: str, port: int, seconds: float) -> float:
    """Bytes per second over one connection."""
    chunk, sent = bytes(_CHUNK), 0
    with socket.create_connection((address, port), timeout=10) as connection:
        connection.sendall(b"s")
        begin = time.perf_counter()
        while (now := time.perf_counter()) < begin + seconds:
            connection.sendall(chunk)
            sent += _CHUNK
    return sent / (now - begin)


def connect(address: str, port: int, seconds: float) -> float:
    """Connections per second, one after the other: connect, one request, one answer, close."""
    count, begin = 0, time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        with socket.create_connection((address, port), timeout=10) as connection:
            connection.sendall(b"c")
            connection.recv(1)
        count += 1
    return count / (now - begin)


def main(what: str, *arguments: str) -> None:
    """Run one of the three."""
    if what == "serve":
        serve_peer(int(arguments[0]))
    work = stream if what == "stream" else connect
    sys.stdout.write(f"{work(arguments[0], int(arguments[1]), float(arguments[2]))}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
