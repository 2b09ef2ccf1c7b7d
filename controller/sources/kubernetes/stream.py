"""Answers of a Kubernetes API server: errors, bodies, and the lines of a watch, which are not parsed here."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from controller.base.printable import printable

WATCH_READ_BYTES = 1 << 16
MAX_LINE = 32 << 20  # an object has at most about 1.5 MiB, and the server sends one a line
MAX_REASON = 300
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, GONE, TOO_MANY = 401, 403, 404, 409, 410, 429


class ApiError(Exception):
    """A request that failed.

    `status` is the HTTP status, 0 where there was no answer; `reason` is for the operator; `retry_after` is in seconds,
    None where the server gave none.
    """

    def __init__(self, status: int, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class SilentError(ApiError):
    """A watch had no line for longer than bookmarks take. The server may be well, and the connection dead."""


class WatchStream:
    """The lines of a watch. One thread iterates and closes; any other may `abort`."""

    def __init__(self, response: urllib3.BaseHTTPResponse, silence: float) -> None:
        self._response = response
        self._silence = silence
        connection: Any = response.connection
        underlying: socket.socket | None = getattr(connection, "sock", None)
        self._lock = threading.Lock()
        # A descriptor of our own for `abort`: urllib3 may close its one, and the number may be reused.
        self._twin: socket.socket | None = None
        if underlying is not None:
            underlying.settimeout(silence)
            self._twin = socket.socket(fileno=os.dup(underlying.fileno()))

    def __iter__(self) -> Iterator[list[bytes]]:
        """Yield lists of lines that arrived together, until the server ends the watch in order. Raises ApiError."""
        begun: list[bytes] = []
        size = 0
        while part := self._read():
            first, newline, tail = part.partition(b"\n")
            begun.append(first)
            size += len(first)
            if size > MAX_LINE:
                raise ApiError(0, f"a line of the watch has more than {MAX_LINE >> 20} MiB")
            if newline:
                *whole, last = tail.split(b"\n")
                yield [line for line in (b"".join(begun), *whole) if line.strip()]
                begun, size = [last], len(last)

    def _read(self) -> bytes:
        try:
            return self._response.read1(WATCH_READ_BYTES)
        except ReadTimeoutError:
            raise SilentError(0, f"the watch was silent for {self._silence:g} s") from None
        except (HTTPError, OSError, ValueError) as error:
            raise ApiError(0, connection_error(error)) from None

    def abort(self) -> None:
        """End the connection: a thread that waits for data gets an error or the end of the stream.

        Below TLS, whose state belongs to the reading thread.
        """
        with self._lock:
            if self._twin is not None:
                with suppress(OSError):  # the server has closed it already
                    self._twin.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._response.close()
            if self._twin is not None:
                self._twin.close()
                self._twin = None


def body_of(response: urllib3.BaseHTTPResponse) -> bytes:
    """The whole body; the connection goes back to its pool. Raises ApiError."""
    try:
        return response.read()
    except (HTTPError, OSError, ValueError) as error:
        response.close()
        raise ApiError(0, connection_error(error)) from None


def error_of_response(response: urllib3.BaseHTTPResponse) -> ApiError:
    """The ApiError of an answer that is no success, with the server's message if it has one."""
    try:
        body = body_of(response)
    except ApiError:
        body = b""
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        status = None
    message = status.get("message") if isinstance(status, dict) else None
    words = printable(message)[:MAX_REASON] if isinstance(message, str) else printable(response.reason or "")
    wait = response.headers.get("Retry-After", "")
    return ApiError(response.status, f"HTTP {response.status}: {words}", float(wait) if wait.isdecimal() else None)


def connection_error(error: Exception) -> str:
    """The innermost reason of a connection's error, without the library's wrapping."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "reason", None) or cause.__cause__ or cause.__context__, BaseException):
        cause = inner
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return printable(str(text).rpartition(">: ")[2])[:MAX_REASON]


def decode(body: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ApiError."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(0, f"the server sent invalid JSON: {printable(str(error))[:MAX_REASON]}") from None
    if not isinstance(found, dict):
        raise ApiError(0, "the server sent JSON that is not an object")
    return found
