"""The listening side of HTTP: a bounded, threaded werkzeug server that a slow or silent client cannot fill.

It works under both hubs, with one (green or real) thread a request. What is answered stands in `http`.
"""

from __future__ import annotations

import io
import logging
import socket
import threading
import time
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from controller.endpoints import HostPort
from controller.errors import StartError
from controller.http import Application

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
BACKLOG = 64
REQUEST_SECONDS = 10.0  # in which a request must have arrived completely
POLL_SECONDS = 0.2
_BUSY = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\r\n"
    b'{"error": "too many connections at once; ask again"}\n'
)


class _Handler(WSGIRequestHandler):
    """One connection, one request: without keep-alive no idle client holds a slot, and no unread body can be taken for
    a request.
    """

    protocol_version = "HTTP/1.0"
    timeout = REQUEST_SECONDS  # of a single read or write
    server: _Server

    def run_wsgi(self) -> None:
        """Answer; the request is here, so only the answer may take its time from now on."""
        self.server.request_arrived(self.connection)
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
    """werkzeug's threaded server with a bound on connections and on the time a request may take to arrive."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: HostPort, application: Application, listener: socket.socket) -> None:
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._arriving: dict[socket.socket, float] = {}
        super().__init__(address.host, address.port, application, _Handler, fd=listener.fileno())

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, or refuse it when there are too many."""
        if not self._slots.acquire(blocking=False):
            request.setblocking(False)
            request.send(_BUSY)
            self.shutdown_request(request)
            return
        self._arriving[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The life of one connection, in its own thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._arriving.pop(request, None)
            self._slots.release()

    def request_arrived(self, request: socket.socket) -> None:
        """The request line and headers of this connection have been read."""
        self._arriving.pop(request, None)

    def service_actions(self) -> None:
        """Called between connections: cut off those whose request still has not arrived."""
        super().service_actions()
        latest = time.monotonic() - REQUEST_SECONDS
        for request, began in list(self._arriving.items()):
            if began < latest and self._arriving.pop(request, None) is not None:
                _cut(request)

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
        listener.listen(BACKLOG)
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
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="http", daemon=True
        )

    @property
    def address(self) -> HostPort:
        """Where it really listens: the system's choice when the port was given as 0."""
        return HostPort(self._server.host, self._server.port)

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests; those under way end with the process."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
