"""The HTTP server: werkzeug's threaded server with bounds, so that slow or silent clients cannot keep others out.

It runs on both hubs, with one green or native thread per connection. Which connections are closed: see `slots`. The
answers: see `pages`.
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
REQUEST_SECONDS = 10.0  # for a request to arrive completely
RESPONSE_SECONDS = 60.0  # for the client to take the response
WRITE_CHUNK_BYTES = 64 << 10
MAX_REQUEST_BYTES = 16 << 10  # request line and headers
MAX_LENGTH_DIGITS = 10
POLL_SECONDS = 0.2
ACCEPT_RETRY_SECONDS = 0.1  # before the next attempt when accept fails
PROBE_PATHS = ("/healthz", "/readyz")  # of liveness and readiness probes, which are always answered
_TOO_LARGE = (
    b"HTTP/1.0 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\n\r\n"
    b'{"error": "request line and headers have at most %d bytes, and end in an empty line"}\n' % MAX_REQUEST_BYTES
)
_BUSY = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\r\n"
    b'{"error": "too many connections at once; try again"}\n'
)


class _BoundedReader(io.BufferedIOBase):
    """The reading side of a connection: at most MAX_REQUEST_BYTES.

    `whole`: the last line was empty, as the one after the headers is. Of a request that is cut off there the headers
    are missing by which it would be refused.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        self._left = MAX_REQUEST_BYTES
        self.whole = False

    def readable(self) -> bool:
        """True."""
        return True

    def readline(self, size: int | None = -1) -> bytes:
        """A line; beyond the bound, as if the client had closed the connection."""
        most = self._left if size is None or size < 0 else min(size, self._left)
        line: bytes = self._stream.readline(most) if most else b""
        self._left -= len(line)
        self.whole = line in (b"\r\n", b"\n")
        return line

    def read_body(self, size: int) -> bytes:
        """This many bytes after the headers, less where the client ends earlier. They do not count for the bound."""
        found: bytes = self._stream.read(size)
        return found

    def close(self) -> None:
        """Close the stream too."""
        self._stream.close()
        super().close()


class _TimedWriter(io.BufferedIOBase):
    """The writing side of a connection: all writes together take at most RESPONSE_SECONDS."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._deadline: float | None = None

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any) -> int:
        """Write all of `data`. Raises TimeoutError."""
        view = memoryview(data)
        if self._deadline is None:
            self._deadline = time.monotonic() + RESPONSE_SECONDS
        for start in range(0, len(view), WRITE_CHUNK_BYTES):
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the client reads the response too slowly")
            self._connection.settimeout(min(left, REQUEST_SECONDS))
            self._connection.sendall(view[start : start + WRITE_CHUNK_BYTES])
        return len(view)


class _Handler(WSGIRequestHandler):
    """One connection with one request: without keep-alive, no idle client holds a slot, and no unread body is parsed as
    a request.
    """

    protocol_version = "HTTP/1.0"
    timeout = REQUEST_SECONDS  # of a single read or write
    server: _Server

    def setup(self) -> None:
        """Bound reading and writing."""
        super().setup()
        self.rfile = cast("io.BufferedIOBase", _BoundedReader(self.rfile))
        self.wfile = cast("io.BufferedIOBase", _TimedWriter(self.connection))

    def run_wsgi(self) -> None:
        """The request has arrived: answer it, if a slot is free."""
        if not cast("_BoundedReader", self.rfile).whole:
            self.wfile.write(_TOO_LARGE)
            return
        body = self._body()
        if not self.server.may_answer(self.connection, self.path.partition("?")[0] in PROBE_PATHS):
            self.wfile.write(_BUSY)
            return
        # Of what was not read werkzeug would go on reading after the response as long as the client sends.
        self.rfile.close()
        self.rfile = io.BytesIO(body)
        super().run_wsgi()

    def _body(self) -> bytes:
        """The body of a request that may have one; "" where it is longer than it may be, which is refused later."""
        limit = self.server.application.body_limit(self.command, self.path.partition("?")[0])
        text = self.headers.get("Content-Length", "")
        if not limit or not (text.isascii() and text.isdecimal() and len(text) < MAX_LENGTH_DIGITS):
            return b""
        reader = cast("_BoundedReader", self.rfile)
        return reader.read_body(int(text)) if int(text) <= limit else b""

    def version_string(self) -> str:
        """The Server header, without the versions of werkzeug and Python."""
        return "headgate"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Log requests at level debug only."""
        log.debug("%s %s", type, message % args if args else message)


class _Server(ThreadedWSGIServer):
    """werkzeug's threaded server, with the bounds of `slots`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: HostPort, application: Application, listener: socket.socket) -> None:
        self._slots = ConnectionSlots()
        self._slot_of: dict[socket.socket, ConnectionSlot] = {}
        self.application = application
        super().__init__(address.host, address.port, application, _Handler, fd=listener.fileno())

    def get_request(self) -> Any:
        """Accept a connection. Without free descriptors, wait a moment: werkzeug would retry at once."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(ACCEPT_RETRY_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the connection."""
        slot = self._slot_of[request] = self._slots.arrive(str(client_address[0]), partial(_shut_down, request))
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.leave(slot)
            del self._slot_of[request]
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, in its own thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            slot = self._slot_of.pop(request, None)
            if slot is not None:
                self._slots.leave(slot)

    def may_answer(self, request: socket.socket, probe: bool) -> bool:
        """The request line and headers of this connection were read; returns whether it may be answered now."""
        slot = self._slot_of.get(request)
        return slot is not None and self._slots.answer(slot, probe)

    def service_actions(self) -> None:
        """Called between connections: close those whose request has not arrived in time."""
        super().service_actions()
        self._slots.close_late(REQUEST_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the client closed early is no error of Headgate."""
        log.debug("the connection of %s ended with an error", client_address, exc_info=True)


def _shut_down(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The client has closed it already.
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
    """Listens from construction on, so that a port in use is an error before anything else starts. Serves from `start`
    to `stop`.
    """

    def __init__(self, address: HostPort, application: Application) -> None:
        # Not bound by werkzeug, which ends the process when that fails.
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
        """The address it listens on, with the system's choice for port 0."""
        return HostPort(self._server.host, self._server.port)

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more connections; requests under way end with the process."""
        self._thread.release()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
