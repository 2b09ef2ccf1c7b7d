"""JSON-RPC messages from a byte stream: the `ovs` package's connection with a reader of our own.

The package's own reader parses character by character, in Python, and loses half a UTF-8 character at the end of a
read; a node with thousands of ports would stop the green threads for seconds. Here a message's end is found by a
regular expression, each byte looked at once, and its text is parsed by the standard library. Before that, its size,
depth, number of values and time are bounded. Nothing of the database's contents is known here.
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
# Everything up to a brace, strings as a whole; then the brace, or the start of a string that is not whole yet. What it
# has taken it never gives back (++, *+).
_TOKEN = re.compile(rb'(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+([{}"])?', re.DOTALL)
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class JsonStreamError(ValueError):
    """The peer does not speak JSON-RPC, or sends what no database would."""


class MessageSplitter:
    """Cuts a byte stream into the texts of its JSON objects, in time proportional to its length.

    What it keeps of a message that is not whole is counted in `budget`, if there is one, until `close`.
    """

    def __init__(self, limits: OvsdbLimits | None = None, budget: MemoryBudget | None = None) -> None:
        self._limits = limits or OvsdbLimits()
        self._budget = budget
        self._parts: list[bytes] = []  # of the message that is not whole yet
        self._size = self._counted = 0
        self._depth = self._values = 0
        self._in_string = self._escaped = False

    @property
    def pending(self) -> int:
        """Bytes of a message that is not whole yet."""
        return self._size

    def feed(self, data: bytes) -> list[bytes]:
        """The texts that `data` completes. Raises JsonStreamError where no object can come of it."""
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
                raise JsonStreamError(f"an unfinished message of {self._size:,} bytes, and no room beside the others'")
            self._counted = self._size
        return texts

    def _grow(self, data: bytes, start: int, end: int) -> None:
        """The message goes on with this part of the data."""
        limits = self._limits
        if start < end:
            part = data if start == 0 and end == len(data) else data[start:end]
            if not self._parts:
                part = part.lstrip()  # white space between two messages is no message that goes on
            if not part:
                return
            self._parts.append(part)
            self._size += len(part)
            # Those in strings count as well: that is quicker, and no database has many.
            self._values += part.count(b",") + part.count(b"[") + part.count(b"{")
        if self._values > limits.message_values:
            raise JsonStreamError(f"a message of more than {limits.message_values:,} values")
        if self._size > limits.message_bytes:
            raise JsonStreamError(f"a message of more than {limits.message_bytes:,} bytes")

    def _leave_string(self, data: bytes) -> int:
        """Where the string ends that an earlier part began; 0 if there is none."""
        if not self._in_string or not data:
            return 0
        at = 1 if self._escaped else 0
        self._escaped = False
        return self._enter_string(data, at)

    def _enter_string(self, data: bytes, at: int) -> int:
        """Go on within a string. Returns where it ends, or the end of the data."""
        found = _REST_OF_STRING.match(data, at)
        at = found.end() if found is not None else at
        if at < len(data) and data[at : at + 1] == b'"':
            self._in_string = False
            return at + 1
        self._in_string = True
        self._escaped = at < len(data)  # a backslash that stands last
        return len(data)

    def close(self) -> None:
        """Forget what is kept."""
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
        self._began = now  # when the message that is not whole yet began

    def recv(self) -> tuple[int, Any]:
        """(0, message), or (errno, None): errno.EAGAIN for "nothing yet", any other has ended the connection."""
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
            raise JsonStreamError(f"a message that took longer than {self._limits.message_seconds:g} s")
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
        time.sleep(0)  # a peer that always has more to say must not keep others waiting
        return 0

    def fail(self, why: str) -> None:
        """End the connection for what the peer did."""
        if not self.status:
            self.failure = why
            self.error(errno.EPROTO)

    def send(self, msg: Any) -> int:
        """As the package's; a peer that does not read is given up."""
        if not self.status and self.get_backlog() > self._limits.unsent_bytes:
            self.fail(f"it has left more than {self._limits.unsent_bytes:,} bytes unread")
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
