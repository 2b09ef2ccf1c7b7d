"""Matrices as values, and how they are drawn."""

from __future__ import annotations

import io

from rich.console import Console

from topology.probe.matrix import Matrix, Outcome, Probe
from topology.probe.render import print_matrix, summary

NAMES = ("x/a", "x/b")


def matrix(outcome: Outcome = Outcome.ALLOWED, **special: Outcome) -> Matrix:
    """All of two endpoints, two ports, two families; `special` by `protocol_family`, from x/a to x/b."""
    return Matrix(
        {
            Probe(source, destination, protocol, 80, family): (
                special.get(f"{protocol}_{family}", outcome) if (source, destination) == NAMES else outcome
            )
            for source in NAMES
            for destination in NAMES
            for protocol in ("TCP", "UDP")
            for family in (4, 6)
        }
    )


def drawn(now: Matrix, before: Matrix | None = None, width: int = 80) -> str:
    out = io.StringIO()
    print_matrix(now, Console(file=out, width=width, force_terminal=False), before)
    return out.getvalue()


def test_json_there_and_back() -> None:
    one = matrix(TCP_4=Outcome.DENIED)
    assert Matrix.from_json(one.to_json()) == one


def test_changes_are_the_differing_probes() -> None:
    changes = matrix(UDP_6=Outcome.DENIED).changes(matrix())
    assert changes == {Probe("x/a", "x/b", "UDP", 80, 6): (Outcome.ALLOWED, Outcome.DENIED)}


def test_ports_that_look_alike_share_a_table() -> None:
    assert "TCP 80, UDP 80 over IPv4 and IPv6" in drawn(matrix())
    split = drawn(matrix(TCP_4=Outcome.DENIED, TCP_6=Outcome.DENIED))
    assert "TCP 80 over IPv4 and IPv6" in split
    assert "UDP 80 over IPv4 and IPv6" in split
    assert "✗" in split


def test_one_family_that_gets_through_is_named() -> None:
    row = next(line for line in drawn(matrix(TCP_4=Outcome.DENIED)).splitlines() if line.startswith("│ x/a"))
    assert row.split("│")[3].strip() == "6"


def test_wrong_answers_stand_out() -> None:
    assert "!" in drawn(matrix(TCP_4=Outcome.WRONG))


def test_changes_are_counted() -> None:
    assert "changed since the last time: 1 probes" in drawn(matrix(UDP_6=Outcome.DENIED), matrix())


def test_columns_that_do_not_fit_are_numbered() -> None:
    names = [f"namespace/pod-{number}" for number in range(12)]
    wide = Matrix({Probe(one, two, "TCP", 80, 4): Outcome.ALLOWED for one in names for two in names})
    text = drawn(wide)
    assert "12 namespace/pod-11" in text
    assert "…" not in text


def test_summary_leaves_out_nothing_that_was_seen() -> None:
    assert summary(matrix(TCP_4=Outcome.DENIED).count()) == "15 allowed, 1 denied"
