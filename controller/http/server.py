"""The listening side of HTTP: a bounded, threaded werkzeug server that a slow or silent client cannot fill.

It works under both hubs, with one (green or real) thread a request. What is answered stands in `http`.
"""

from __future__ import annotations

import io
import logging
import socket
import time
from functools import partial
from typing import Any, cast

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from controller.base.errors import StartError
from controller.base.threads import watched
from controller.config.addresses import HostPort
from controller.http.pages import Application
from controller.http.slots import ConnectionSlot, ConnectionSlots

log = logging.getLogger(__name__)

HTTP_BACKLOG = 128
REQUEST_SECONDS = 10.0  # in which a request must have arrived completely
RESPONSE_SECONDS = 60.0  # in which an answer must have been taken, once it is there
WRITE_CHUNK_BYTES = 64 << 10
MAX_REQUEST_BYTES = 16 << 10  # of a request's line and headers
POLL_SECONDS = 0.2
ACCEPT_RETRY_SECONDS = 0.1  # before the next attempt where a connection could not be accepted
PROBE_PATHS = ("/healthz", "/readyz")  # by which others decide whether this process lives and is of use
_BUSY = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\r\n"
    b'{"error": "too many connections at once; ask again"}\n'
)


class _Bounded(io.BufferedIOBase):
    """The reading side of a connection: no more than a request may have."""

    def __init__(self, raw: Any) -> None:
        super().__init__()
        self._raw = raw
        self._left = MAX_REQUEST_BYTES

    def readable(self) -> bool:
        """It is."""
        return True

    def readline(self, size: int | None = -1) -> bytes:
        """A line; what goes beyond the bound is as if the client had ended there."""
        most = self._left if size is None or size < 0 else min(size, self._left)
        line: bytes = self._raw.readline(most) if most else b""
        self._left -= len(line)
        return line

    def close(self) -> None:
        """Close what is underneath too."""
        self._raw.close()
        super().close()


class _Patient(io.BufferedIOBase):
    """The writing side: each step may take its time, and all together no more than RESPONSE_SECONDS."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._deadline: float | None = None

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """All of it. Raises TimeoutError."""
        view = memoryview(data)
        if self._deadline is None:
            self._deadline = time.monotonic() + RESPONSE_SECONDS
        for start in range(0, len(view), WRITE_CHUNK_BYTES):
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the client takes its answer too slowly")
            self._connection.settimeout(min(left, REQUEST_SECONDS))
            self._connection.sendall(view[start : start + WRITE_CHUNK_BYTES])
        return len(view)


class _Handler(WSGIRequestHandler):
    """One connection, one request: without keep-alive no idle client holds a slot, and no unread body can be taken for
    a request.
    """

    protocol_version = "HTTP/1.0"
    timeout = REQUEST_SECONDS  # of a single read or write
    server: _Server

    def setup(self) -> None:
        """Bound both directions."""
        super().setup()
        self.rfile = cast("io.BufferedIOBase", _Bounded(self.rfile))
        self.wfile = cast("io.BufferedIOBase", _Patient(self.connection))

    def run_wsgi(self) -> None:
        """Answer; the request is here, so only the answer may take its time from now on."""
        if not self.server.may_answer(self.connection, self.path.partition("?")[0] in PROBE_PATHS):
            self.wfile.write(_BUSY)
            return
        # No request has a body, and werkzeug would read on after the answer for as long as the client likes to send.
        self.rfile.close()
        self.rfile = io.BytesIO()
        super().run_wsgi()

    def version_string(self) -> str:
        """The Server header, without the versions of what is underneath."""
        return "headgate"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Requests are no news: they are logged for debugging only."""
        log.debug("%s %s", type, message % args if args else message)


class _Server(ThreadedWSGIServer):
    """werkzeug's threaded server with bounds (see `http_slots`) that a client cannot use up for others."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: HostPort, application: Application, listener: socket.socket) -> None:
        self._slots = ConnectionSlots()
        self._slot_of: dict[socket.socket, ConnectionSlot] = {}
        super().__init__(address.host, address.port, application, _Handler, fd=listener.fileno())

    def get_request(self) -> Any:
        """The next connection. Out of descriptors it waits a moment, for else it would be asked again at once."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(ACCEPT_RETRY_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread."""
        slot = self._slot_of[request] = self._slots.arrive(str(client_address[0]), partial(_cut, request))
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.leave(slot)
            del self._slot_of[request]
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The life of one connection, in its own thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            slot = self._slot_of.pop(request, None)
            if slot is not None:
                self._slots.leave(slot)

    def may_answer(self, request: socket.socket, vital: bool) -> bool:
        """The request line and headers of this connection have been read; whether it may be answered now."""
        slot = self._slot_of.get(request)
        return slot is not None and self._slots.answer(slot, vital)

    def service_actions(self) -> None:
        """Called between connections: cut off those whose request still has not arrived."""
        super().service_actions()
        self._slots.cut_late(REQUEST_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off is the client's matter."""
        log.debug("the connection of %s ended with an error", client_address, exc_info=True)


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The client was faster.
        return


def _listen(address: HostPort) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(HTTP_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class HttpServer:
    """Listens from construction on, so that a port in use is found before anything else starts; serves between start
    and stop.
    """

    def __init__(self, address: HostPort, application: Application) -> None:
        # Bound here and not by werkzeug, which ends the process when it cannot.
        try:
            listener = _listen(address)
        except OSError as error:
            raise StartError(
                f"cannot serve HTTP on {address}: {error.strerror}; choose another address with --http HOST:PORT"
            ) from None
        with listener:
            bound = HostPort(*listener.getsockname()[:2])
            self._server = _Server(bound, application, listener)
        self._thread = watched("http", partial(self._server.serve_forever, POLL_SECONDS))

    @property
    def address(self) -> HostPort:
        """Where it really listens: the system's choice when the port was given as 0."""
        return HostPort(self._server.host, self._server.port)

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests; those under way end with the process."""
        self._thread.release()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
