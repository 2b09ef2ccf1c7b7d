"""Who was PRIMARY when, and who wrote: judged by what the switches themselves said. Pure.

Within one session the order of words is that of the switch. Between sessions it is that in which they were read,
which is the same but for moments: see SKEW_SECONDS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.chaos.wire import Said, Word

SKEW_SECONDS = 0.5


@dataclass(frozen=True)
class Heard:
    """A word of a switch, to the session of a replica. A session has a number of its own."""

    at: float
    switch: str
    replica: str
    session: int
    word: Word


@dataclass(frozen=True)
class Restarted:
    """A switch was started again: it has forgotten generations, and all sessions are new."""

    at: float
    switch: str


def two_writers(heard: Iterable[Heard | Restarted]) -> list[str]:
    """Every breach of "one writer in one generation", in words."""
    found: list[str] = []
    primaries: dict[tuple[str, int], str] = {}  # the replica of each switch and generation
    newest: dict[str, Heard] = {}  # the grant with the newest generation of each switch
    sessions: dict[tuple[str, int], Word] = {}  # the last role of each session
    for one in heard:
        if isinstance(one, Restarted):
            newest.pop(one.switch, None)
            continue
        session = one.switch, one.session
        if one.word.said is Said.COMMITTED:
            role = sessions.get(session)
            if role is None or role.said is not Said.PRIMARY:
                found.append(
                    f"{one.at:.2f} s: {one.switch} took a bundle from {one.replica}, which was not its primary"
                )
            continue
        sessions[session] = one.word
        if one.word.said is Said.PRIMARY:
            found += _grant(one, primaries, newest)
    return found


def _grant(one: Heard, primaries: dict[tuple[str, int], str], newest: dict[str, Heard]) -> list[str]:
    found = []
    generation = one.word.generation
    holder = primaries.setdefault((one.switch, generation), one.replica)
    if holder != one.replica:
        found.append(f"{one.at:.2f} s: {one.switch} had {holder} and {one.replica} as primaries in {generation:016x}")
    before = newest.get(one.switch)
    if before is None or before.word.generation <= generation:
        newest[one.switch] = one
    elif before.replica != one.replica and one.at > before.at + SKEW_SECONDS:
        found.append(
            f"{one.at:.2f} s: {one.switch} made {one.replica} its primary in {generation:016x}, after "
            f"{before.replica} in {before.word.generation:016x}"
        )
    return found


@dataclass(frozen=True)
class Terms:
    """How many terms and bundles there were, for the report."""

    terms: int
    bundles: int


def terms(heard: Iterable[Heard | Restarted]) -> Terms:
    """The counts: a term is a replica's time as primary of one switch in one generation."""
    words = [one for one in heard if isinstance(one, Heard)]
    granted = {(one.switch, one.word.generation) for one in words if one.word.said is Said.PRIMARY}
    return Terms(len(granted), sum(one.word.said is Said.COMMITTED for one in words))
