"""Two writers are found, from the bytes of a switch on; what real switches do is none."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.wire import Said, SwitchReader, Word
from tests.chaos.writers import Heard, Restarted, terms, two_writers

PRIMARY, SECONDARY, COMMITTED = 2, 3, 5


def message(kind: int, body: bytes, xid: int = 1) -> bytes:
    return struct.pack("!BBHI", 5, kind, 8 + len(body), xid) + body


def role_reply(role: int, generation: int) -> bytes:
    return message(25, struct.pack("!I4xQ", role, generation))


def role_status(role: int, generation: int) -> bytes:
    return message(30, struct.pack("!IB3xQ", role, 0, generation))


def bundle_control(kind: int) -> bytes:
    return message(33, struct.pack("!IHH", 7, kind, 3))


STREAM = b"".join(
    [
        message(0, b""),
        role_reply(SECONDARY, 4),
        message(19, bytes(3000)),
        role_reply(PRIMARY, 5),
        bundle_control(1),
        bundle_control(3),
        bundle_control(COMMITTED),
        role_status(SECONDARY, 6),
        message(3, b"echo"),
    ]
)
WORDS = [Word(Said.SECONDARY, 4), Word(Said.PRIMARY, 5), Word(Said.COMMITTED), Word(Said.SECONDARY, 6)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_words_of_a_switch_in_any_pieces(cuts: list[int]) -> None:
    reader = SwitchReader()
    ends = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(ends)]
    assert [word for piece in pieces for word in reader.feed(piece)] == WORDS


def grant(at: float, replica: str, session: int, generation: int, switch: str = "n0") -> Heard:
    return Heard(at, switch, replica, session, Word(Said.PRIMARY, generation))


def demote(at: float, replica: str, session: int, generation: int) -> Heard:
    return Heard(at, "n0", replica, session, Word(Said.SECONDARY, generation))


def commit(at: float, replica: str, session: int, switch: str = "n0") -> Heard:
    return Heard(at, switch, replica, session, Word(Said.COMMITTED))


TAKEOVER = [
    grant(1, "r0", 1, 5),
    commit(2, "r0", 1),
    demote(3, "r0", 1, 6),
    grant(3, "r1", 2, 6),
    commit(4, "r1", 2),
]


def test_a_takeover_has_one_writer_at_a_time() -> None:
    assert two_writers(TAKEOVER) == []
    assert (terms(TAKEOVER).terms, terms(TAKEOVER).bundles) == (2, 2)


def test_a_bundle_of_a_secondary_is_found() -> None:
    (line,) = two_writers([*TAKEOVER, commit(5, "r0", 1)])
    assert "took a bundle from r0" in line
    assert two_writers([commit(1, "r0", 1)]), "a session that has no role yet"
    assert two_writers([grant(1, "r0", 1, 5), commit(2, "r0", 9)]), "a new session has no role of the old one"


def test_two_primaries_in_one_generation_are_found() -> None:
    (line,) = two_writers([grant(1, "r0", 1, 5), grant(2, "r1", 2, 5)])
    assert "r0 and r1" in line
    assert two_writers([grant(1, "r0", 1, 5), grant(2, "r1", 2, 5, "n1")]) == []
    assert two_writers([grant(1, "r0", 1, 5), Restarted(2, "n0"), grant(3, "r1", 2, 5)]), "for ever, not for a life"


def test_an_older_generation_after_a_newer_one_is_found() -> None:
    older = [grant(1, "r1", 2, 6), grant(2, "r0", 1, 5)]
    assert len(two_writers(older)) == 1
    assert two_writers([older[0], Restarted(1.5, "n0"), older[1]]) == []
    assert two_writers([grant(1, "r1", 2, 6), grant(1.1, "r0", 1, 5)]) == [], "read in another order than said"
    assert two_writers([grant(1, "r0", 2, 6), grant(2, "r0", 1, 6)]) == [], "a new session of the same replica"
