"""What can be wrong with OpenFlow bytes."""

from __future__ import annotations


class CodecError(Exception):
    """Bytes that are not the OpenFlow we know, or a flow that cannot be put into bytes; the message says which."""


class MessageTooLong(CodecError):
    """A flow needs a message of more than 64 KiB, the most that OpenFlow's 16-bit length can say."""
