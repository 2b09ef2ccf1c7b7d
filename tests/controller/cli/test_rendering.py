"""What people read, at 80 columns and with hundreds of policies: no value is broken, no screen overflows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.cli import flows, pod, policy
from controller.cli.findings import findings
from controller.cli.layout import Column, fit_columns, header, row_lines, unbreakable_parts, wrap
from controller.cli.status import show_status
from controller.cli.status_choice import StatusChoice, of_node
from controller.cli.status_tables import STATUS_TABLES
from controller.status.detail_model import PeerView
from controller.status.model import StatusView
from tests.helpers.controller.fake_views import POD, POLICY, STATUS
from tests.helpers.controller.large_status import LONG_POD, LONG_REASON, address, flow, large_status
from tests.helpers.controller.terminal import Terminal, words

WIDTH, HEIGHT = 80, 24


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys, WIDTH, HEIGHT)


def has_whole(lines: list[str], values: list[str]) -> None:
    """Every value stands in one line, whole."""
    missing = [value for value in values if not any(value in line for line in lines)]
    assert missing == []


def flat(lines: list[str]) -> str:
    """The text without its line breaks."""
    return " ".join(" ".join(lines).split())


def all_lists() -> StatusChoice:
    return StatusChoice(tuple(STATUS_TABLES), everything=True)


# -- the summary -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(0, 0, 0, 0), (4, 2, 2, 0), (30, 10, 3, 1), (2000, 300, 500, 3000)])
def test_the_summary_stays_within_a_screen(size: tuple[int, int, int, int], terminal: Terminal) -> None:
    view = large_status(*size)
    lines = terminal.lines(lambda: show_status(view))
    assert terminal.rows(lines) < HEIGHT
    assert all(len(line) <= WIDTH for line in lines if LONG_POD not in line)


def test_the_summary_counts_and_says_what_is_wrong_first(terminal: Terminal) -> None:
    view = large_status()
    lines = terminal.lines(lambda: show_status(view))
    text = "\n".join(lines)
    assert lines[0].startswith("Headgate 1.2.3, up 1d 1h: ") and lines[0].endswith(" problems")
    counts = {said[0]: " ".join(said[1:]) for line in lines[1:7] if (said := line.split())}
    assert counts["pods"] == "2,000 1,333 installed, 1,000 isolated"
    assert counts["ports"] == "2,500 2,000 of pods, 500 without a pod"
    assert counts["policies"] == "300 225 realized, 75 not realized"
    assert counts["flows"] == "4,000,000 250 foreign"
    total = len(list(findings(view)))
    shown = sum(
        line.startswith("  ") and not line.startswith("   ") for line in lines[lines.index("What is wrong") + 1 :]
    )
    assert f"  ... and {total - shown + 1:,} more: headgate status --problems" == lines[-1]
    for kind in (
        "source kubernetes",
        "ovsdb tcp:",
        "switch worker-0",
        "policy tenant-0",
        "pod tenant-0",
        "port stray0",
    ):
        assert f"  {kind}" in text


def test_a_small_cluster_is_shown_whole(terminal: Terminal) -> None:
    view = replace(
        STATUS, policies=STATUS.policies[:1], pods=STATUS.pods[:1], problems=(), ovsdb=(),
        switches=(replace(STATUS.switches[0], unbound_ports=()),),
    )  # fmt: skip
    lines = terminal.lines(lambda: show_status(view))
    assert lines[0].endswith("nothing is wrong")
    assert "What is wrong" not in lines
    assert {"Switches", "Policies", "Pods"} <= set(lines)


def test_a_larger_screen_shows_more(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Terminal(monkeypatch, capsys, 120, 60).lines(lambda: show_status(large_status()))
    assert 40 < len(lines) < 60


def test_a_name_longer_than_a_line_is_not_cut(terminal: Terminal) -> None:
    lost = replace(STATUS.pods[1], key=LONG_POD)
    lines = terminal.lines(lambda: show_status(replace(STATUS, pods=(lost,))))
    assert terminal.rows(lines) < HEIGHT
    has_whole(lines, [LONG_POD])


# -- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [False, True])
def test_no_value_of_a_list_is_broken(wide: bool, terminal: Terminal) -> None:
    view = large_status(pods=60, policies=30, bridges=10, problems=10)
    lines = terminal.lines(lambda: show_status(view, all_lists()._replace(wide=wide)))
    has_whole(lines, [one.key for one in view.pods] + [one.key for one in view.policies])
    has_whole(lines, [text for one in view.pods for text in (one.node, *one.addresses)])
    has_whole(lines, [one.node for one in view.switches])
    if wide:
        has_whole(lines, [one.ovsdb for one in view.switches] + [one.dpid for one in view.switches])
        has_whole(lines, [one.mac for one in view.pods])
    assert {len(line) for line in lines if len(line) > WIDTH} <= {len(LONG_POD)}


def test_a_list_holds_every_word_of_every_reason(terminal: Terminal) -> None:
    view = large_status(pods=5, policies=5, bridges=2, problems=2)
    said = words("\n".join(terminal.lines(lambda: show_status(view, StatusChoice(("problems",))))))
    assert said.count("word59") == sum(LONG_REASON in one.reason for one in findings(view))


def test_a_node_is_shown_alone(terminal: Terminal) -> None:
    view = of_node(large_status(pods=60, bridges=10), "worker-3.rack-3.example.com")
    text = "\n".join(
        terminal.lines(lambda: show_status(view, all_lists()._replace(node="worker-3.rack-3.example.com")))
    )
    assert "worker-3.rack-3" in text and "worker-4.rack-4" not in text and address(3) in text
    text = "\n".join(terminal.lines(lambda: show_status(view, StatusChoice(node="worker-3.rack-3.example.com"))))
    assert "(node worker-3.rack-3.example.com)" in text


def test_more_columns_are_asked_for() -> None:
    for table in STATUS_TABLES.values():
        assert set(table.columns) <= set(table.wide)


# -- flows, a pod, a policy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [False, True])
def test_no_term_of_a_flow_is_broken(wide: bool, terminal: Terminal) -> None:
    found = [flow(n) for n in range(40)]
    lines = terminal.lines(lambda: flows.show_flows(found, wide))
    for one in found:
        has_whole(lines, [term.strip() for term in unbreakable_parts(one.match, "terms")])
        has_whole(lines, [term.strip() for term in unbreakable_parts(one.actions, "terms")])
        has_whole(lines, [one.rules[0].split()[0], LONG_POD, one.pods[0]])
    assert "conjunction(3,1/3)," in unbreakable_parts(flow(3).actions, "terms")
    assert all(len(line) <= WIDTH for line in lines if LONG_POD not in line)


def test_a_pod_and_a_policy_are_shown_whole(terminal: Terminal) -> None:
    key = LONG_POD
    peers = tuple(PeerView(address(n), (f"tenant-a/web-{n}",)) for n in range(30))
    rule = replace(POD.rules[0], peers=peers, peer_count=5000)
    isolation = replace(POD.isolation[0], policies=tuple(f"tenant-a/policy-{n}" for n in range(300)))
    found = replace(POD, pod=replace(POD.pod, key=key, addresses=(address(1),)), rules=(rule,), isolation=(isolation,))
    lines = terminal.lines(lambda: pod.show_pod(found))
    has_whole(lines, [key, address(1), *isolation.policies])
    assert "and 4,992 more" in flat(lines)
    lines = terminal.lines(lambda: pod.show_pod(found, wide=True))
    has_whole(lines, [peer.address for peer in peers])
    assert "and 4,970 more" in flat(lines)
    whole = replace(
        POLICY, rules=(rule,) * 3, policy=replace(POLICY.policy, reason=LONG_REASON, pods=2000),
        subjects=tuple(replace(POLICY.subjects[0], pod=f"tenant-a/web-{n}") for n in range(1000)),
        switches=tuple(replace(POLICY.switches[0], node=f"node-{n}", in_force=n != 400) for n in range(500)),
    )  # fmt: skip
    lines = terminal.lines(lambda: policy.show_policy(whole))
    has_whole(
        lines, ["node-400", "... and 1,990 more: see -o wide or -o json", "... and 490 more: see -o wide or -o json"]
    )
    assert len(lines) < 100
    assert all(len(line) <= WIDTH for line in lines)


# -- the layout's own properties -------------------------------------------------------------------------------------

TEXTS = st.text(alphabet="ab,()[]: .-/", max_size=60).map(str.strip)


@given(text=TEXTS, width=st.integers(1, 40), breaks=st.sampled_from(["", "words", "terms"]))
def test_a_wrapped_text_is_the_text(text: str, width: int, breaks: str) -> None:
    lines = wrap(text, width, breaks)
    assert "".join(unbreakable_parts(text, breaks)) == text
    assert "".join("".join(lines).split()) == "".join(text.split())
    whole = [atom.rstrip() for atom in unbreakable_parts(text, breaks)]
    assert all(len(line) <= width or line.strip() in {one.strip() for one in whole} for line in lines)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(TEXTS, min_size=4, max_size=4), min_size=1, max_size=8),
    width=st.integers(20, 120),
    kinds=st.lists(st.sampled_from(["", "words", "terms"]), min_size=4, max_size=4),
    right=st.booleans(),
)
def test_every_value_of_a_table_stands_in_it_whole(
    rows: list[list[str]], width: int, kinds: list[str], right: bool
) -> None:
    columns = [Column(f"C{n}", right=right and n == 1, breaks=kind) for n, kind in enumerate(kinds)]
    found = fit_columns(columns, rows, width)
    assert len(header(columns, found)) <= max(width, 14)
    for row in rows:
        lines = ["".join(piece.text for piece in line).rstrip() for line in row_lines(columns, row, found, width)]
        for column, text in zip(columns, row, strict=True):
            if text in ("", "-"):
                continue
            for atom in unbreakable_parts(text, column.breaks):
                assert any(atom.strip() in line for line in lines)
        longest = max(
            len(atom.strip())
            for text, c in zip(row, columns, strict=True)
            for atom in unbreakable_parts(text, c.breaks)
        )
        assert all(len(line) <= max(width, longest + 8) for line in lines)


def test_a_hundred_thousand_findings_cost_no_more_than_reading_them() -> None:
    view = large_status(pods=0, policies=0, bridges=0, problems=1)
    many = StatusView("1", 1.0, problems=view.problems * 100_000)
    show_status(many)
