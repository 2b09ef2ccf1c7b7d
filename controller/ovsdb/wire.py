"""JSON-RPC messages from a byte stream: the `ovs` package's connection with a reader of our own.

The package's own reader parses character by character, in Python, and loses half a UTF-8 character at the end of a
read; a node with thousands of ports would stop the green threads for seconds. Here a message's end is found by a
regular expression and its text is parsed by the standard library. Nothing of the database's contents is known here.
"""

from __future__ import annotations

import errno
import json
import re
from collections import deque
from typing import Any

import ovs.jsonrpc
import ovs.util

READ_BYTES = 1 << 16
LIMIT_BYTES = 256 << 20  # one message; a bridge of 10,000 ports is about 10 MiB
# A whole string, the start of one that is not whole yet, or a brace. What it has taken it never gives back (++, *+).
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}]', re.DOTALL)


class WireError(ValueError):
    """The peer does not speak JSON-RPC."""


class Splitter:
    """Cuts a byte stream into the texts of its JSON objects, in time proportional to its length."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._buffer = b""
        self._scanned = 0
        self._depth = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The texts that `data` completes. Raises WireError where no object can come of it."""
        buffer = self._buffer + data
        start, scanned, texts = 0, len(buffer), []
        for token in _TOKEN.finditer(buffer, self._scanned):
            sign = token.group()
            if sign == b"{":
                self._depth += 1
            elif sign == b"}":
                self._depth -= 1
                if self._depth < 0:
                    raise WireError("unbalanced braces")
                if self._depth == 0:
                    texts.append(buffer[start : token.end()])
                    start = token.end()
            elif sign == b'"':
                scanned = token.start()
                break
        self._buffer, self._scanned = buffer[start:], scanned - start
        if len(self._buffer) > self._limit:
            raise WireError("message too long")
        return texts


def parse(text: bytes) -> Any:
    """One JSON-RPC message of the `ovs` package. Raises WireError."""
    try:
        message = ovs.jsonrpc.Message.from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise WireError(str(error)) from error
    if isinstance(message, str):
        raise WireError(message)
    return message


class FramedConnection(ovs.jsonrpc.Connection):  # type: ignore[misc]  # ovs has no types
    """A JSON-RPC connection that reads through a Splitter."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._splitter = Splitter()
        self._texts: deque[bytes] = deque()

    def recv(self) -> tuple[int, Any]:
        """(0, message), or (errno, None): errno.EAGAIN for "nothing yet", any other has ended the connection."""
        try:
            while not self.status and not self._texts:
                error, data = self.stream.recv(READ_BYTES)
                if error == errno.EAGAIN:
                    return error, None
                if error or not data:
                    self.error(error or ovs.util.EOF)
                    break
                self.received_bytes += len(data)
                self._texts.extend(self._splitter.feed(data))
            if not self.status:
                return 0, parse(self._texts.popleft())
        except WireError:
            self.error(errno.EPROTO)
        return self.status, None

    def recv_wait(self, poller: Any) -> None:
        """Wake the poller when recv() has something to do."""
        if self.status or self._texts:
            poller.immediate_wake()
        else:
            self.stream.recv_wait(poller)
