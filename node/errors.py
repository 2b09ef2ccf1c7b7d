"""Errors of the node's program: each message says what is wrong and, where it is known, how to mend it."""

from __future__ import annotations

# Codes of the CNI specification 1.1, section "Error".
INCOMPATIBLE_VERSION = 1
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
UNDECODABLE = 6
INVALID_CONFIGURATION = 7
TRY_AGAIN = 11
NOT_AVAILABLE = 50
# Of our own, from 100 on.
INTERNAL = 100
CHECK_FAILED = 101


class NodeError(Exception):
    """Something on this node is not as it must be."""


class CniError(NodeError):
    """A command of the CNI failed: `code` is the specification's or one of our own, `details` a longer text or ""."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details
