"""Matrices as values, and how they are drawn."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from topology.probe.history import KEPT_RUNS, ProbeRun, comparable_run, load_runs, save_runs
from topology.probe.matrix import LabProbe, Matrix, Outcome, probe_mesh
from topology.probe.render import change_lines, outcome_lines, outcome_summary, print_matrix
from topology.spec.model import LabPort

NAMES = ("x/a", "x/b")


def matrix(outcome: Outcome = Outcome.ALLOWED, **special: Outcome) -> Matrix:
    """All of two endpoints, two ports, two families; `special` by `protocol_family`, from x/a to x/b."""
    return Matrix(
        {
            LabProbe(source, destination, protocol, 80, family): (
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
    assert changes == {LabProbe("x/a", "x/b", "UDP", 80, 6): (Outcome.ALLOWED, Outcome.DENIED)}


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
    assert "changed: 1\n" in drawn(matrix(UDP_6=Outcome.DENIED), matrix())


def test_columns_that_do_not_fit_are_numbered() -> None:
    names = [f"namespace/pod-{number}" for number in range(12)]
    wide = Matrix({LabProbe(one, two, "TCP", 80, 4): Outcome.ALLOWED for one in names for two in names})
    text = drawn(wide)
    assert "12 namespace/pod-11" in text
    assert "…" not in text


def test_summary_leaves_out_nothing_that_was_seen() -> None:
    assert outcome_summary(matrix(TCP_4=Outcome.DENIED).count()) == "15 allowed, 1 denied"


def test_words_are_allowed_denied_and_closed() -> None:
    text = drawn(matrix(TCP_4=Outcome.DENIED, TCP_6=Outcome.CLOSED))
    assert "✓ allowed" in text
    assert "✗ denied" in text
    text = drawn(matrix(TCP_4=Outcome.CLOSED, TCP_6=Outcome.CLOSED))
    assert "○ closed: allowed, no server listens" in text


def test_changes_are_listed_as_text() -> None:
    before = matrix()
    assert change_lines(matrix(UDP_6=Outcome.DENIED), before) == ["x/a -> b UDP 80 IPv6  ✓ -> ✗"]
    both = matrix(TCP_4=Outcome.DENIED, TCP_6=Outcome.DENIED)
    assert change_lines(both, before) == ["x/a -> b TCP 80  ✓ -> ✗"]
    assert change_lines(before, both, plain=True) == ["x/a -> b TCP 80  x -> +"]
    mixed = matrix(TCP_4=Outcome.DENIED, TCP_6=Outcome.CLOSED)
    assert change_lines(mixed, before) == ["x/a -> b TCP 80 IPv4  ✓ -> ✗", "x/a -> b TCP 80 IPv6  ✓ -> ○"]


def test_one_pair_is_told_in_lines() -> None:
    one = Matrix({LabProbe("x/a", "y/b", "TCP", 80, family): Outcome.DENIED for family in (4, 6)})
    assert outcome_lines(one) == ["x/a -> y/b TCP 80  ✗ denied"]
    only = Matrix({LabProbe("x/a", "external:w", "ICMP", 0, 4): Outcome.ALLOWED})
    assert outcome_lines(only) == ["x/a -> external:w ICMP IPv4  ✓ allowed"]


def run(at: float, sources: str, destinations: str, ports: tuple[int, ...] = (80,)) -> ProbeRun:
    """Everything allowed between endpoints of one letter each."""
    probes = probe_mesh(list(sources), [LabPort(port=port) for port in ports], [4], destinations=list(destinations))
    return ProbeRun(at, Matrix(dict.fromkeys(probes, Outcome.ALLOWED)))


def test_like_is_compared_with_like() -> None:
    whole, newer, part, other = (
        run(1, "abc", "abc"),
        run(2, "abc", "abc"),
        run(3, "a", "b"),
        run(4, "abc", "abc", (81,)),
    )
    runs = [whole, newer, part, other]
    assert comparable_run(runs, run(9, "abc", "abc").matrix) is newer
    assert comparable_run(runs, run(9, "a", "b").matrix) is part
    assert comparable_run(runs, run(9, "a", "bc").matrix) is newer
    assert comparable_run(runs, run(9, "a", "bc", (81,)).matrix) is other
    assert comparable_run(runs, run(9, "a", "b", (82,)).matrix) is None
    assert comparable_run([], whole.matrix) is None


LETTERS = st.text("abc", min_size=1, max_size=3).map(lambda text: "".join(dict.fromkeys(text)))
RUNS = st.builds(run, st.floats(0, 1e9), LETTERS, LETTERS, st.sampled_from([(80,), (81,), (80, 81)]))


@given(st.lists(RUNS, max_size=8), RUNS)
def test_no_other_run_has_more_in_common(runs: list[ProbeRun], now: ProbeRun) -> None:
    found = comparable_run(runs, now.matrix)
    most = max((one.common(now.matrix) for one in runs), default=0)
    assert (found.common(now.matrix) if found else 0) == most
    if found and most == len(now.matrix.results):
        assert found.at == max(one.at for one in runs if one.common(now.matrix) == most)


def test_runs_are_kept_while_they_are_of_use(tmp_path: Path) -> None:
    path = tmp_path / "probes.json"
    assert load_runs(path) == []
    for one in (run(1, "a", "b"), run(2, "abc", "abc"), run(3, "a", "b")):
        save_runs(path, load_runs(path), one)
    assert load_runs(path) == [run(2, "abc", "abc"), run(3, "a", "b")]
    for number in range(10):
        save_runs(path, load_runs(path), run(number, "a", "b", (1000 + number,)))
    assert len(load_runs(path)) == KEPT_RUNS
    path.write_text("[{}]")
    assert load_runs(path) == []
