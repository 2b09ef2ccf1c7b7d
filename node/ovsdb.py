"""A small client of OVSDB (RFC 7047, ovsdb-server(7)) over a unix socket: transactions, and the monitor of some rows.

It holds at most MAX_MESSAGE bytes of what the server sends, and each call ends at a deadline. Values of columns are
those of RFC 7047, section 5.1, as `json` makes them; `as_map`, `as_set` and `as_uuid` read them.
"""

from __future__ import annotations

import select
import time

from node.errors import NodeError
from node.quick import TYPE_CHECKING, decode_json, encode_json, socket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Row = dict[str, Any]
    Operation = dict[str, Any]

DEFAULT_SOCKET = "/run/openvswitch/db.sock"
DATABASE = "Open_vSwitch"
MAX_MESSAGE = 16 << 20  # bytes of one message; a node of 250 pods has less than 1 MiB
_CHUNK = 1 << 16
_WATCH = "headgate"  # the id of our one monitor


class OvsdbError(NodeError):
    """The OVSDB cannot be reached, refused something, or sent what nobody can read."""


class Ovsdb:
    """One connection. Use it as a context manager. `timeout` is how long a call may take, in seconds."""

    def __init__(self, path: str = DEFAULT_SOCKET, timeout: float = 10.0) -> None:
        self.path = path
        self._timeout = timeout
        self._buffer = b""
        self._number = 0
        self._changed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise OvsdbError(f"ovsdb-server does not answer at {path}: {error.strerror or error}") from None

    def __enter__(self) -> Ovsdb:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. May be called again."""
        self._socket.close()

    def transact(self, *operations: Operation) -> list[Row]:
        """Run operations as one transaction and return the result of each. Raises OvsdbError if any was refused."""
        results = self._call("transact", [DATABASE, *operations])
        if not isinstance(results, list):
            raise OvsdbError("the OVSDB answered a transaction with something else")
        for result in results:
            if isinstance(result, dict) and "error" in result:
                details = result.get("details", "")
                raise OvsdbError(f"the OVSDB refused a transaction: {result['error']}: {details}".rstrip(": "))
        if len(results) < len(operations) or not all(isinstance(result, dict) for result in results):
            raise OvsdbError("the OVSDB answered a transaction with too little")
        return results

    def select(self, table: str, where: Iterable[Any] = (), columns: Iterable[str] = ()) -> list[Row]:
        """The rows of a table that meet all conditions, with these columns (all where none is named)."""
        operation: Operation = {"op": "select", "table": table, "where": list(where)}
        if columns:
            operation["columns"] = list(columns)
        rows = self.transact(operation)[0].get("rows")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise OvsdbError(f"the OVSDB answered a selection of {table} with something else")
        return rows

    def watch(self, table: str, where: list[Any], columns: Iterable[str]) -> None:
        """Monitor the rows of a table that meet the conditions (`monitor_cond`, ovsdb-server(7)). A connection can
        watch once."""
        self._call("monitor_cond", [DATABASE, _WATCH, {table: [{"columns": list(columns), "where": where}]}])
        self._changed = True

    def wait_for_change(self, deadline: float) -> bool:
        """Wait until the watched rows have changed since the last call (the first one returns at once), at most until
        `deadline` (time.monotonic). Returns whether they have. What they are now is read by `select`: an update of
        `monitor_cond` has only differences."""
        while not self._changed:
            message = self._receive(deadline)
            if message is None:
                return False
            self._take(message)
        self._changed = False
        return True

    def _call(self, method: str, params: list[Any]) -> Any:
        self._number += 1
        deadline = time.monotonic() + self._timeout
        self._send({"method": method, "params": params, "id": self._number})
        while True:
            message = self._receive(deadline)
            if message is None:
                raise OvsdbError(f"ovsdb-server at {self.path} did not answer within {self._timeout:g} s")
            if message.get("id") == self._number and "result" in message:
                if message.get("error") is not None:
                    raise OvsdbError(f"the OVSDB refused {method}: {encode_json(message['error'])[:300]}")
                return message["result"]
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        """Remember an update; answer the server's question whether we are there."""
        if message.get("method") == "update2":
            self._changed = True
        elif message.get("method") == "echo":
            self._send({"result": message.get("params"), "error": None, "id": message.get("id")})

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self._socket.sendall(encode_json(message).encode())
        except OSError as error:
            raise OvsdbError(f"the connection to {self.path} ended: {error.strerror or error}") from None

    def _receive(self, deadline: float) -> dict[str, Any] | None:
        """The next message, None at the deadline."""
        while True:
            message = self._decode()
            if message is not None:
                return message
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return None
            try:
                chunk = self._socket.recv(_CHUNK)
            except OSError as error:
                raise OvsdbError(f"the connection to {self.path} ended: {error.strerror or error}") from None
            if not chunk:
                raise OvsdbError(f"ovsdb-server at {self.path} ended the connection")
            self._buffer += chunk
            if len(self._buffer) > MAX_MESSAGE:
                raise OvsdbError(f"ovsdb-server sent a message of more than {MAX_MESSAGE} bytes")

    def _decode(self) -> dict[str, Any] | None:
        """The first whole message of the buffer. A message ends with a brace, so an attempt is made only there."""
        if not self._buffer.endswith(b"}"):
            return None
        try:
            text = self._buffer.decode()
            message, rest = decode_json(text)
        except (ValueError, RecursionError):
            return None  # not whole yet; what never becomes whole ends at the limit or the deadline
        self._buffer = rest.encode()
        if not isinstance(message, dict):
            raise OvsdbError("ovsdb-server sent something else than a message")
        return message


def as_map(value: Any) -> dict[str, str]:
    """A column of type map of strings. Raises OvsdbError for anything else."""
    if isinstance(value, list) and len(value) == 2 and value[0] == "map" and isinstance(value[1], list):
        pairs = value[1]
        if all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in pairs
        ):
            return dict(pairs)
    raise OvsdbError("the OVSDB has another type than a map of texts where one must be")


def as_set(value: Any) -> list[Any]:
    """The elements of a column of type set; one element may stand alone (RFC 7047, section 5.1)."""
    if isinstance(value, list) and len(value) == 2 and value[0] == "set" and isinstance(value[1], list):
        return list(value[1])
    return [value]


def as_uuid(value: Any) -> str:
    """The text of an uuid. Raises OvsdbError for anything else."""
    if isinstance(value, list) and len(value) == 2 and value[0] == "uuid" and isinstance(value[1], str):
        return value[1]
    raise OvsdbError("the OVSDB has something else where an uuid must be")


def make_map(values: Mapping[str, str]) -> list[Any]:
    """A map of strings as a column's value."""
    return ["map", [[key, value] for key, value in values.items()]]
