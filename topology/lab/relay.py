"""Relays OpenFlow connections of the nodes to the controller, from inside their network namespaces to the outside.

A switch in its own network namespace cannot reach the controller, which listens on the machine's loopback so that
`headgate --server` works from any shell; and a lab adds no interfaces to the machine's own namespace. So this process
listens inside each node's namespace, on the same address as the controller outside, and passes bytes both ways. The
target that the controller sets on a bridge therefore works unchanged.

Run as `python -m topology.lab.relay JOB READY`. JOB is a JSON file, a list of {"netns", "listen": [host, port],
"to": [host, port]}; READY is a descriptor to which a line is written once all sockets listen.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from topology.host.netns import in_thread, inside

RELAY_BYTES = 1 << 16
RELAY_PAUSE = 0.05


def _listen(netns: Path, host: str, port: int) -> socket.socket:
    def make() -> socket.socket:
        with inside(netns):
            return socket.create_server((host, port))

    return in_thread(make)


def _send_at_once(writer: asyncio.StreamWriter) -> None:
    """Wait for no acknowledgement: the end of a bundle would wait up to 40 ms for that of its beginning.

    asyncio sets this for what it connects, but not for what such a socket accepts.
    """
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side closes, then close the other."""
    try:
        while data := await reader.read(RELAY_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # a reset closes the connection, too
    finally:
        writer.close()


async def _connect(
    switch: asyncio.StreamReader, host: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Connect to the controller for a switch; None if the switch closes its connection first.

    While no controller listens, the switch is left waiting as if packets were lost. If it were refused, it would wait
    up to eight seconds before its next attempt. Bytes that it sends meanwhile are passed on later.
    """
    pending = b""
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            try:
                data = await asyncio.wait_for(switch.read(RELAY_BYTES), RELAY_PAUSE)
            except TimeoutError:
                continue
            except OSError:
                return None
            if not data:
                return None
            pending += data
        else:
            writer.write(pending)
            return reader, writer


async def _serve(job: list[dict[str, Any]], ready: int) -> None:
    servers = []
    for entry in job:
        host, port = entry["to"]

        async def accepted(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str = host, port: int = port
        ) -> None:
            _send_at_once(writer)
            far = await _connect(reader, host, port)
            if far is None:
                writer.close()
                return
            far_reader, far_writer = far
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

        listener = _listen(Path(entry["netns"]), *entry["listen"])
        servers.append(await asyncio.start_server(accepted, sock=listener))
    os.write(ready, b"\n")
    os.close(ready)
    await asyncio.Event().wait()


def main() -> None:
    """Relay until killed."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    asyncio.run(_serve(job, int(sys.argv[2])))


if __name__ == "__main__":
    main()
