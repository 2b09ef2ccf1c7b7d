"""The network between replicas, switches and the API server: links by name that can be cut and healed.

A link is a listener and a target; it carries bytes both ways. While it is cut nothing passes, as if every packet were
lost: connections stay open and silent, and new ones get no answer. What was sent meanwhile arrives after it was
healed, as TCP would send it again. Both ends are read at once, cut or not, so that what a switch says is heard when
it says it; HELD_PIECES bounds what is held back.

All links are served by one thread of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from topology.host.netns import in_thread, inside

PIECE_BYTES = 1 << 16
HELD_PIECES = 1024
RETRY_SECONDS = 0.05  # while nobody listens at the target
Listener = Callable[[str, int, bytes], None]  # link, session, bytes from the near end


@dataclass(frozen=True)
class Target:
    """Where a link leads: a port of this machine, or the path of a socket."""

    where: int | str

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect. Raises OSError."""
        if isinstance(self.where, int):
            return await asyncio.open_connection("127.0.0.1", self.where)
        return await asyncio.open_unix_connection(self.where)


class Links:
    """A context. `heard` is called, in the thread of the links, with what comes from the near end of each link: for an
    OpenFlow link that is the switch, which connects to the replica.
    """

    def __init__(self, heard: Listener) -> None:
        self._heard = heard
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._open: dict[str, asyncio.Event] = {}
        self._cuts: dict[str, int] = {}
        self._sessions = itertools.count(1)

    def __enter__(self) -> Links:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def to_port(self, name: str, port: int, netns: Path | None = None, at: int = 0) -> int:
        """A link to a port of this machine, from port `at` (0: any) of the loopback, in `netns` if given; its port."""

        def make() -> socket.socket:
            with inside(netns) if netns is not None else contextlib.nullcontext():
                return socket.create_server(("127.0.0.1", at))

        sock = in_thread(make)
        self._do(self._serve(name, sock, Target(port)))
        return int(sock.getsockname()[1])

    def to_socket(self, name: str, path: Path, target: Path) -> str:
        """A link from a socket at `path` to the one at `target`; its address as in ovs-vsctl --db."""
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen(16)
        self._do(self._serve(name, sock, Target(str(target))))
        return f"unix:{path}"

    def cut(self, name: str) -> None:
        """Let nothing pass any more. A link may be cut several times, and is healed as often."""
        self._do(self._set(name, 1))

    def heal(self, name: str) -> None:
        """Let everything pass again."""
        self._do(self._set(name, -1))

    def is_cut(self, name: str) -> bool:
        """Whether it is cut."""
        return self._cuts.get(name, 0) > 0

    def cuts(self) -> set[str]:
        """All that are cut."""
        return {name for name, count in self._cuts.items() if count > 0}

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _set(self, name: str, by: int) -> None:
        self._cuts[name] += by
        if self._cuts[name]:
            self._open[name].clear()
        else:
            self._open[name].set()

    async def _serve(self, name: str, sock: socket.socket, target: Target) -> None:
        if name not in self._open:
            self._open[name], self._cuts[name] = asyncio.Event(), 0
            self._open[name].set()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._carry(name, reader, writer, target)
            writer.close()

        if sock.family is socket.AF_UNIX:
            await asyncio.start_unix_server(accepted, sock=sock)
        else:
            await asyncio.start_server(accepted, sock=sock)

    async def _carry(
        self, name: str, near: asyncio.StreamReader, near_writer: asyncio.StreamWriter, target: Target
    ) -> None:
        gate, session = self._open[name], next(self._sessions)
        there: asyncio.Queue[bytes] = asyncio.Queue(HELD_PIECES)
        reading = asyncio.create_task(_read(near, there, lambda data: self._heard(name, session, data)))
        try:
            far, far_writer = await self._connect(gate, target, reading, there)
            back: asyncio.Queue[bytes] = asyncio.Queue(HELD_PIECES)
            try:
                await asyncio.gather(
                    reading,
                    _write(there, far_writer, gate),
                    _read(far, back, lambda _: None),
                    _write(back, near_writer, gate),
                )
            finally:
                far_writer.close()
        finally:
            reading.cancel()

    async def _connect(
        self, gate: asyncio.Event, target: Target, reading: asyncio.Task[None], waiting: asyncio.Queue[bytes]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect once the link is whole and somebody listens; raises OSError if the near end gives up before.

        A switch that were refused would wait up to eight seconds, which a lost packet does not make it do.
        """
        while True:
            await gate.wait()
            with contextlib.suppress(OSError):
                return await target.connect()
            if reading.done():
                raise ConnectionResetError("the near end gave up")
            await asyncio.sleep(RETRY_SECONDS)


async def _read(reader: asyncio.StreamReader, queue: asyncio.Queue[bytes], heard: Callable[[bytes], None]) -> None:
    """Read until the end, of which an empty piece tells."""
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE_BYTES):
            heard(data)
            await queue.put(data)
    await queue.put(b"")


async def _write(queue: asyncio.Queue[bytes], writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
    """Pass on what was read while the link is whole, and then its end."""
    with contextlib.suppress(OSError):
        while data := await queue.get():
            await gate.wait()
            writer.write(data)
            await writer.drain()
        await gate.wait()
    writer.close()
