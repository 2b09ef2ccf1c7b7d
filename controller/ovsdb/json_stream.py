"""JSON-RPC messages from a byte stream: the `ovs` package's connection with a reader of Headgate's own.

The package's reader parses character by character in Python, and loses half a UTF-8 character at the end of a read; a
node with thousands of ports would stop all green threads for seconds. Here a regular expression finds the end of a
message, looking at each byte once, and the standard library parses the text. Before that, size, depth, number of values
and time of a message are bounded. What the database contains must not live here.
"""

from __future__ import annotations

import errno
import json
import re
import time
from collections import deque
from typing import Any

import ovs.jsonrpc
import ovs.timeval
import ovs.util

from controller.peers.limits import OvsdbLimits
from controller.peers.memory_budget import MemoryBudget
from controller.peers.token_bucket import TokenBucket, message_cost

READ_BYTES = 1 << 16
READS_PER_TURN = 4
# Everything up to a brace, strings as a whole; then the brace, or the start of an unfinished string. Possessive
# quantifiers (++, *+) keep it from backtracking.
_TOKEN = re.compile(rb'(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+([{}"])?', re.DOTALL)
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class JsonStreamError(ValueError):
    """The peer does not send JSON-RPC, or exceeds a limit."""


class MessageSplitter:
    """Splits a byte stream into the texts of its JSON objects, in time proportional to its length.

    The bytes of an unfinished message are counted in `budget`, if there is one, until `close`.
    """

    def __init__(self, limits: OvsdbLimits | None = None, budget: MemoryBudget | None = None) -> None:
        self._limits = limits or OvsdbLimits()
        self._budget = budget
        self._parts: list[bytes] = []  # of the unfinished message
        self._size = self._counted = 0
        self._depth = self._values = 0
        self._in_string = self._escaped = False

    @property
    def pending(self) -> int:
        """Bytes of the unfinished message."""
        return self._size

    def feed(self, data: bytes) -> list[bytes]:
        """The texts of the messages that `data` completes. Raises JsonStreamError."""
        texts: list[bytes] = []
        start, at, end, match = 0, self._leave_string(data), len(data), _TOKEN.match
        while at < end:
            token = match(data, at)
            sign = token.group(1) if token is not None else None
            if token is None or sign is None:
                break
            at = token.end()
            if sign == b'"':
                self._enter_string(data, at)
                break
            if sign == b"{":
                self._depth += 1
                if self._depth > self._limits.message_depth:
                    raise JsonStreamError(f"a message of more than {self._limits.message_depth} levels")
                continue
            self._depth -= 1
            if self._depth < 0:
                raise JsonStreamError("unbalanced braces")
            if self._depth == 0:
                self._grow(data, start, at)
                texts.append(b"".join(self._parts))
                self._parts.clear()
                self._size = self._values = 0
                start = at
        self._grow(data, start, end)
        if self._budget is not None:
            if not self._budget.resize(self._counted, self._size):
                raise JsonStreamError(f"an unfinished message of {self._size:,} bytes; other connections leave no room")
            self._counted = self._size
        return texts

    def _grow(self, data: bytes, start: int, end: int) -> None:
        """Append this part of the data to the unfinished message. Raises JsonStreamError when it exceeds a limit."""
        limits = self._limits
        if start < end:
            part = data if start == 0 and end == len(data) else data[start:end]
            if not self._parts:
                part = part.lstrip()  # white space between two messages begins none
            if not part:
                return
            self._parts.append(part)
            self._size += len(part)
            # Also counts those within strings: that is faster, and no database has many.
            self._values += part.count(b",") + part.count(b"[") + part.count(b"{")
        if self._values > limits.message_values:
            raise JsonStreamError(f"a message of more than {limits.message_values:,} values")
        if self._size > limits.message_bytes:
            raise JsonStreamError(f"a message of more than {limits.message_bytes:,} bytes")

    def _leave_string(self, data: bytes) -> int:
        """The end of the string that an earlier part began; 0 without one."""
        if not self._in_string or not data:
            return 0
        at = 1 if self._escaped else 0
        self._escaped = False
        return self._enter_string(data, at)

    def _enter_string(self, data: bytes, at: int) -> int:
        """Skip the rest of a string. Returns its end, or the end of the data."""
        found = _REST_OF_STRING.match(data, at)
        at = found.end() if found is not None else at
        if at < len(data) and data[at : at + 1] == b'"':
            self._in_string = False
            return at + 1
        self._in_string = True
        self._escaped = at < len(data)  # the data ends with a backslash
        return len(data)

    def close(self) -> None:
        """Drop the unfinished message."""
        self._parts.clear()
        self._size = 0
        if self._budget is not None:
            self._budget.resize(self._counted, 0)
            self._counted = 0


def parse_message(text: bytes) -> Any:
    """One JSON-RPC message of the `ovs` package. Raises JsonStreamError."""
    try:
        message = ovs.jsonrpc.Message.from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise JsonStreamError(str(error)[:200]) from error
    if isinstance(message, str):
        raise JsonStreamError(message[:200])
    return message


class FramedConnection(ovs.jsonrpc.Connection):  # type: ignore[misc]  # ovs has no types
    """A JSON-RPC connection with a rate limit, read through a MessageSplitter. `failure`: the peer's protocol error."""

    def __init__(self, stream: Any, limits: OvsdbLimits | None = None, budget: MemoryBudget | None = None) -> None:
        super().__init__(stream)
        self.failure = ""
        self._limits = limits or OvsdbLimits()
        self._splitter = MessageSplitter(self._limits, budget)
        self._texts: deque[bytes] = deque()
        now = time.monotonic()
        self._pace = TokenBucket(self._limits.burst, self._limits.rate, now)
        self._began = now  # when the unfinished message began

    def recv(self) -> tuple[int, Any]:
        """(0, message), or (errno, None): errno.EAGAIN without a message; any other errno has ended the connection."""
        try:
            for _ in range(READS_PER_TURN):
                if self.status or self._texts:
                    break
                if (error := self._read()) == errno.EAGAIN:
                    return error, None
            if not self.status and not self._texts:
                return errno.EAGAIN, None
            if not self.status:
                return 0, parse_message(self._texts.popleft())
        except JsonStreamError as error:
            self.fail(str(error))
        return self.status, None

    def _read(self) -> int:
        """Read up to READ_BYTES; errno.EAGAIN without data, or while over the rate limit. Raises JsonStreamError."""
        now = time.monotonic()
        if self._pace.wait(now) > 0:
            return errno.EAGAIN
        if not self._splitter.pending:
            self._began = now
        elif now - self._began > self._limits.message_seconds:
            raise JsonStreamError(f"a message took longer than {self._limits.message_seconds:g} s")
        error, data = self.stream.recv(READ_BYTES)
        if error == errno.EAGAIN:
            return errno.EAGAIN
        if error or not data:
            self.error(error or ovs.util.EOF)
            return 0
        self.received_bytes += len(data)
        texts = self._splitter.feed(data)
        self._pace.spend(message_cost(len(data)) + len(texts))
        if texts:
            self._began = now
        self._texts.extend(texts)
        time.sleep(0)  # a peer that always sends must not stop other threads
        return 0

    def fail(self, why: str) -> None:
        """End the connection for a fault of the peer."""
        if not self.status:
            self.failure = why
            self.error(errno.EPROTO)

    def send(self, msg: Any) -> int:
        """As the package's; ends the connection of a peer that does not read."""
        if not self.status and self.get_backlog() > self._limits.unsent_bytes:
            self.fail(f"it does not read: more than {self._limits.unsent_bytes:,} bytes are queued")
            return int(self.status)
        return int(super().send(msg))

    def error(self, error: int) -> None:
        """The connection has ended."""
        super().error(error)
        self._splitter.close()
        self._texts.clear()

    def close(self) -> None:
        """As the package's."""
        self._splitter.close()
        super().close()

    def recv_wait(self, poller: Any) -> None:
        """Wake the poller when recv() has something to do."""
        if self.status or self._texts:
            poller.immediate_wake()
        elif (rest := self._pace.wait(time.monotonic())) > 0:
            poller.timer_wait(1000 * rest)
        else:
            self.stream.recv_wait(poller)
            if self._splitter.pending:
                poller.timer_wait(1000 * (self._limits.message_seconds + 0.1))
