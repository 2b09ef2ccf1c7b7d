"""Errors of the codec."""

from __future__ import annotations


class CodecError(Exception):
    """Bytes that Headgate never writes, or a flow that cannot be encoded; the message says which."""


class MessageTooLong(CodecError):
    """A flow needs a message of more than 64 KiB, the most that OpenFlow's 16-bit length allows."""
