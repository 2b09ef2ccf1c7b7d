"""DNS messages: what a query asks, and which addresses an answer gives for the name asked.

Everything is untrusted. A message that breaks the format in the part that is read is refused as a whole; sections after
the answers are not read. Names are compared in lower case, as DNS does. Tests hold this equal to dnspython, which takes
some ten times as long for an answer, and every answer to a pod waits for it.
Source: RFC 1035 section 4, RFC 3596 (AAAA), RFC 2308, RFC 9267 (what goes wrong in such code).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from flows.cluster.domain_names import MAX_NAME
from flows.cluster.net import Net

MAX_CHAIN = 16  # CNAMEs of one answer that are followed
MAX_RECORDS = 4096  # in the answer section
MAX_POINTERS = 126  # of one name: between any two of them is a label
_HEADER = struct.Struct("!HHHHHH")
_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_RESPONSE, _OPCODE, _RCODE = 0x8000, 0x7800, 0x000F
_A, _CNAME, _AAAA, _IN = 1, 5, 28, 1
_ADDRESS = {_A: (4, 4), _AAAA: (6, 16)}  # version, and bytes
_POINTER = 0xC0
_QUESTION_NAME = bytes((_POINTER, _HEADER.size))  # the pointer to the name of the question


class DnsError(Exception):
    """Bytes that are no DNS message of the kind that is read."""


class DnsQuery(NamedTuple):
    """A question and the id of its message. `name` is in normal form; "" is the root, or a name that no rule can have:
    one with a byte that is no letter, digit, hyphen or underscore."""

    number: int
    name: str
    kind: int


class DnsAnswer(NamedTuple):
    """A response: the question that it repeats, and the addresses at the end of the name's chain, with the smallest
    time to live on the way to each, in seconds."""

    query: DnsQuery
    addresses: tuple[tuple[Net, int], ...]


def read_query(message: bytes) -> DnsQuery:
    """The question of a query. Raises DnsError."""
    flags, _, query, _ = _read_question(message)
    if flags & _RESPONSE:
        raise DnsError("a response, not a query")
    return query


def read_answered_query(message: bytes) -> DnsQuery:
    """The question that a response repeats; nothing behind it is read. Raises DnsError."""
    flags, _, query, _ = _read_question(message)
    if not flags & _RESPONSE:
        raise DnsError("a query, not a response")
    return query


def read_answer(message: bytes) -> DnsAnswer:
    """What a response says. One with an error code has no addresses. Raises DnsError."""
    flags, count, query, offset = _read_question(message)
    if not flags & _RESPONSE:
        raise DnsError("a query, not a response")
    if flags & _RCODE or query.kind not in _ADDRESS or not query.name:
        return DnsAnswer(query, ())
    if count > MAX_RECORDS:
        raise DnsError(f"{count} records")
    aliases: dict[str, tuple[str, int]] = {}
    found: dict[str, list[tuple[Net, int]]] = {}
    version, size = _ADDRESS[query.kind]
    for _ in range(count):
        if message[offset : offset + 2] == _QUESTION_NAME:  # as nearly always
            name, offset = query.name, offset + 2
        else:
            name, offset = _read_name(message, offset)
        if offset + _RECORD.size > len(message):
            raise DnsError("a record ends early")
        kind, kind_class, life, length = _RECORD.unpack_from(message, offset)
        offset += _RECORD.size
        end = offset + length
        if end > len(message):
            raise DnsError("a record's data ends early")
        life = 0 if life >> 31 else life  # RFC 2181 section 8
        if kind_class == _IN and kind == query.kind:
            if length != size:
                raise DnsError(f"an address of {length} bytes")
            address = Net(version, int.from_bytes(message[offset:end], "big"), size * 8)
            found.setdefault(name, []).append((address, life))
        elif kind_class == _IN and kind == _CNAME:
            target, behind = _read_name(message, offset)
            if behind != end:
                raise DnsError("an alias whose length is wrong")
            aliases.setdefault(name, (target, life))
        offset = end
    return DnsAnswer(query, _follow(query.name, aliases, found))


def _follow(
    name: str, aliases: dict[str, tuple[str, int]], found: dict[str, list[tuple[Net, int]]]
) -> tuple[tuple[Net, int], ...]:
    """The addresses of a name, through its aliases."""
    least = 0xFFFFFFFF
    for _ in range(MAX_CHAIN + 1):
        if name in found:
            lives: dict[Net, int] = {}
            for address, life in found[name]:
                lives[address] = min(life, least, lives.get(address, least))
            return tuple(lives.items())
        if name not in aliases:
            break
        name, life = aliases[name]
        least = min(least, life)
    return ()


def _read_question(message: bytes) -> tuple[int, int, DnsQuery, int]:
    """Flags, number of answers, the only question, and where it ends."""
    if len(message) < _HEADER.size:
        raise DnsError("shorter than a header")
    number, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    if questions != 1 or flags & _OPCODE:
        raise DnsError("not one plain question")
    name, offset = _read_name(message, _HEADER.size)
    if offset + _QUESTION.size > len(message):
        raise DnsError("the question ends early")
    kind, kind_class = _QUESTION.unpack_from(message, offset)
    if kind_class != _IN:
        kind = 0
    return flags, answers, DnsQuery(number, name, kind), offset + _QUESTION.size


def _read_name(message: bytes, offset: int) -> tuple[str, int]:
    """A name at an offset, and where it ends there. A pointer must lead to an earlier place than the one before it, so
    there is no loop."""
    labels: list[bytes] = []
    total, end, bound, pointers = 0, -1, offset, 0
    while True:
        if offset >= len(message):
            raise DnsError("a name ends early")
        length = message[offset]
        if length >= _POINTER:
            if offset + 2 > len(message):
                raise DnsError("a pointer ends early")
            target = (length & 0x3F) << 8 | message[offset + 1]
            if end < 0:
                end = offset + 2
            pointers += 1
            if target >= bound or pointers > MAX_POINTERS:
                raise DnsError("a pointer that leads ahead, or one too many")
            offset = bound = target
            continue
        if length & _POINTER:
            raise DnsError("a label of an unknown kind")
        offset += 1
        if not length:
            break
        total += length + 1
        if total > MAX_NAME + 1 or offset + length > len(message):
            raise DnsError("a name that is too long")
        labels.append(message[offset : offset + length])
        offset += length
    return _text(labels), offset if end < 0 else end


_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


def _text(labels: list[bytes]) -> str:
    """The labels in normal form. A name with other bytes gets a form that no pattern has, and that keeps it apart from
    other names."""
    name = b".".join(labels)
    if len(name.translate(None, _PLAIN)) == name.count(b".") == max(len(labels) - 1, 0):
        return name.decode().lower()
    return "\\" + "\\".join(label.lower().hex() for label in labels)
