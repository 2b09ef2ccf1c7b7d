"""The parts of `headgate status`: the summary that stays within a screen, and the lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from controller.base.printable import printable
from controller.cli.findings import (
    OBJECT,
    OVSDB,
    POD,
    PORT,
    SOURCE,
    SWITCH,
    TLS,
    Finding,
    dropped_by_limits,
    findings,
    pod_reason,
    policy_reason,
    switch_reason,
)
from controller.cli.layout import rows_of, wrap
from controller.cli.output import BAD, OutputPage, Row, Styled, dim, mark, seconds
from controller.status.model import PodView, PolicyView, ProblemView, SourceView, StatusView, SwitchView

PROBLEMS_COMMAND = "headgate status --problems"
PROMPT_LINES = 1  # the shell's next prompt should not push the first line out
NAMED = 3  # addresses of a node, in the summary
FINDING_LINES = 2  # of one finding in the summary; the whole reason stands in --problems
INDENT = "  "
PLURALS = {
    SOURCE: "sources", OVSDB: "OVSDB connections", SWITCH: "switches", "policy": "policies", POD: "pods",
    PORT: "ports", OBJECT: "objects", TLS: "TLS",
}  # fmt: skip


class StatusChoice(NamedTuple):
    """What the user asked to see: lists by name, with the sources; only one node; all columns. `server` was asked."""

    tables: tuple[str, ...] = ()
    everything: bool = False
    node: str = ""
    wide: bool = False
    server: str = ""


@dataclass(frozen=True, slots=True)
class StatusTable:
    """A list of the status: its title, columns as usual and with `-o wide`, and what makes its rows."""

    title: str
    columns: tuple[str, ...]
    wide: tuple[str, ...]
    rows: Callable[[StatusView, bool], list[Row]]
    right: str = ""
    whole: str = ""

    def draw(self, page: OutputPage, view: StatusView, wide: bool) -> None:
        """Put it on the page; nothing for no rows."""
        columns = self.wide if wide else self.columns
        page.table(self.title, columns, self.rows(view, wide), right=self.right, whole=self.whole)


def of_node(view: StatusView, node: str) -> StatusView:
    """What of a status concerns one node; what concerns no node (sources, policies, objects) is left out."""
    places = {f"{switch.node} ({switch.bridge})" for switch in view.switches if switch.node == node}
    return replace(
        view,
        sources=(),
        ovsdb=tuple(o for o in view.ovsdb if o.remote in {s.ovsdb for s in view.switches if s.node == node}),
        switches=tuple(switch for switch in view.switches if switch.node == node),
        policies=(),
        pods=tuple(pod for pod in view.pods if pod.node == node),
        problems=tuple(problem for problem in view.problems if _is_at(problem, places)),
        plain=(),
        tls=None,
    )


def _is_at(problem: ProblemView, places: set[str]) -> bool:
    """Whether it is a bridge's, as foreign flows are."""
    return not problem.key and problem.where in places


def show_tables(page: OutputPage, view: StatusView, chosen: StatusChoice) -> None:
    """The lists that were asked for, each whole."""
    if chosen.everything:
        _headline(page, view, list(findings(view)), chosen)
        SOURCES_TABLE.draw(page, view, chosen.wide)
        IGNORED_TABLE.draw(page, view, chosen.wide)
    for name in chosen.tables:
        if STATUS_TABLES[name].rows(view, chosen.wide):
            STATUS_TABLES[name].draw(page, view, chosen.wide)
        elif not chosen.everything:
            page.line("Nothing is wrong." if name == "problems" else f"There are no {name}.")


def show_summary(page: OutputPage, view: StatusView, chosen: StatusChoice) -> None:
    """Counts, then the first of what is wrong, then each list that still fits as a whole. A screen at most."""
    found = list(findings(view))
    _headline(page, view, found, chosen)
    for missing in view.waiting_for[:FINDING_LINES]:
        _short(page, f"  waiting for {missing}")
    for line in _counts(view, chosen.node):
        page.line(line)
    _findings(page, found, chosen.node)
    for table in (
        STATUS_TABLES["switches"],
        STATUS_TABLES["policies"],
        STATUS_TABLES["pods"],
        SOURCES_TABLE,
        IGNORED_TABLE,
    ):
        rows = table.rows(view, chosen.wide)
        if len(rows) <= page.height and _measure(page, table, view, chosen.wide) <= _left(page):
            table.draw(page, view, chosen.wide)


def _left(page: OutputPage) -> int:
    return page.height - PROMPT_LINES - page.written


def _measure(page: OutputPage, table: StatusTable, view: StatusView, wide: bool) -> int:
    sketch = page.sketch()
    table.draw(sketch, view, wide)
    return sketch.written + 1


def _headline(page: OutputPage, view: StatusView, found: Sequence[Finding], chosen: StatusChoice) -> None:
    if view.waiting_for:
        state = "not ready, nothing is sent to switches yet"
    elif found:
        state = f"{len(found):,} problem{'s' * (len(found) != 1)}"
    else:
        state = "nothing is wrong"
    at = f" at {chosen.server}" if chosen.server else ""
    where = f" (node {chosen.node})" if chosen.node else ""
    page.line(f"Headgate {view.version}{at}, up {seconds(view.uptime)}{where}: {state}")


def _counts(view: StatusView, node: str) -> list[str]:
    """A line for each kind of thing there is."""
    switches, policies, pods = view.switches, view.policies, view.pods
    lines = []
    if view.sources:
        synced = sum(source.synced for source in view.sources)
        problems = sum(source.problems for source in view.sources)
        ignored = sum(sum(source.ignored.values()) for source in view.sources)
        tally = {"synced": synced, f"object{'s' * (problems != 1)} not taken": problems, "passed over": ignored}
        lines.append(_count("sources", len(view.sources), tally))
    in_sync, away = sum(s.in_sync for s in switches), sum(not s.openflow_connected for s in switches)
    lines.append(_count("switches", len(switches), {"in sync": in_sync, "away": away}, ("in sync",)))
    if not node:
        realized = sum(policy.realized for policy in policies)
        tally = {"realized": realized, "not realized": len(policies) - realized}
        lines.append(_count("policies", len(policies), tally, ("realized",)))
    installed, isolated = sum(pod.installed for pod in pods), sum(bool(pod.isolated) for pod in pods)
    tally = {"installed": installed, "isolated": isolated, "without a port": sum(not pod.port for pod in pods)}
    tally["over a limit"] = sum(bool(pod.limited) for pod in pods)
    lines.append(_count("pods", len(pods), tally, ("installed",)))
    unbound = sum(len(switch.unbound_ports) for switch in switches)
    bound = sum(bool(pod.port) for pod in pods)
    lines.append(_count("ports", bound + unbound, {"of pods": bound, "without a pod": unbound}, ("of pods",)))
    ours = sum(switch.actual_flows or 0 for switch in switches)
    lines.append(_count("flows", ours, {"foreign": sum(switch.foreign_flows for switch in switches)}))
    answered = [address for switch in switches for address in switch.answered]
    if node and answered:
        more = f" and {len(answered) - NAMED} more" if len(answered) > NAMED else ""
        lines.append(f"  the node also answers for {', '.join(answered[:NAMED])}{more}")
    return lines


def _count(name: str, total: int, tally: dict[str, int], always: tuple[str, ...] = ("synced",)) -> str:
    parts = [f"{number:,} {what}" for what, number in tally.items() if number or (what in always and total)]
    return f"  {name:<9} {total:>9,}{'  ' if parts else ''}{', '.join(parts)}"


def _findings(page: OutputPage, found: Sequence[Finding], node: str) -> None:
    """The first of each kind, then more of them in turn while there is room; the last line tells how many are left."""
    if not found:
        return
    page.line()
    page.line("What is wrong", "bold")
    more = 1 + rows_of([PROBLEMS_COMMAND], page.width)
    drawn: list[tuple[int, list[str]]] = []
    room = _left(page)
    for number in _in_turn(found):
        lines = _brief(found[number], page.width)
        needed = rows_of(lines, page.width)
        if needed > room - (more if len(drawn) + 1 < len(found) else 0):
            continue
        drawn.append((number, lines))
        room -= needed
        if room <= more:
            break
    for _, lines in sorted(drawn):
        for line in lines:
            page.raw(line)
    if len(drawn) < len(found):
        where = f"{PROBLEMS_COMMAND} --node {node}" if node else PROBLEMS_COMMAND
        page.line(f"  ... and {len(found) - len(drawn):,} more: {where}")


def _in_turn(found: Sequence[Finding]) -> list[int]:
    """The first of every kind, then the second of every kind, and so on; as many as a screen could ever have."""
    seen: Counter[str] = Counter()
    ranked = []
    for number, one in enumerate(found):
        if seen[one.kind] < 100:
            ranked.append((seen[one.kind], number))
        seen[one.kind] += 1
    return [number for _, number in sorted(ranked)]


def _brief(one: Finding, width: int) -> list[str]:
    """A finding in at most FINDING_LINES lines; words that have no place are left out."""
    text = printable(f"{one.kind} {one.name}: {one.reason}")
    first, *rest = wrap(text, width - len(INDENT))
    lines = [first]
    if rest:
        room = width - 2 * len(INDENT)
        again = wrap(" ".join(rest), room)
        lines += again[: FINDING_LINES - 1]
        if len(again) >= FINDING_LINES:
            lines[-1] = _with_dots(lines[-1], room)
    return [INDENT + lines[0], *(2 * INDENT + line for line in lines[1:])]


def _with_dots(line: str, room: int) -> str:
    while len(wrap(f"{line} ...", room)) > 1 and " " in line:
        line = line.rpartition(" ")[0]
    return f"{line} ..."


def _short(page: OutputPage, text: str) -> None:
    """One line of text; words that have no place are left out."""
    lines = wrap(printable(text), page.width)
    page.raw(lines[0] if len(lines) == 1 else _with_dots(lines[0], page.width))


# -- lists -----------------------------------------------------------------------------------------------------------


def _cut(row: Row, names: tuple[str, ...], shown: tuple[str, ...]) -> Row:
    """The cells of a full row that are shown."""
    return tuple(cell for name, cell in zip(names, row, strict=True) if name in shown)


def _source_rows(view: StatusView, wide: bool) -> list[Row]:
    return [_source(one) for one in view.sources]


def _source(one: SourceView) -> Row:
    return one.name, one.kind, mark(one.synced), seconds(one.age), str(one.problems), one.reason or "-"


def _ignored_rows(view: StatusView, wide: bool) -> list[Row]:
    return [(one.name, what, str(number)) for one in view.sources for what, number in one.ignored.items()]


def _switch_rows(view: StatusView, wide: bool) -> list[Row]:
    shown = SWITCHES_TABLE.wide if wide else SWITCHES_TABLE.columns
    return [_cut(_switch(one), SWITCHES_TABLE.wide, shown) for one in view.switches]


def _switch(one: SwitchView) -> Row:
    actual = "?" if one.actual_flows is None else str(one.actual_flows)
    reason = switch_reason(one)
    return (
        one.node or "(no hostname)",
        one.bridge,
        one.dpid or "-",
        one.ovsdb,
        one.ovs_version or "-",
        one.datapath_type or "system",
        one.uplink or "-",
        mark(one.ovsdb_connected, "connected", "away"),
        mark(one.openflow_connected, "connected", "away"),
        f"{actual}/{one.desired_flows}",
        str(one.foreign_flows) if not one.foreign_flows else Styled(str(one.foreign_flows), BAD),
        str(len(one.unbound_ports)),
        "-" if one.commit_age is None else f"{seconds(one.commit_age)} ago",
        mark(one.in_sync, "in sync", "not in sync"),
        reason or "-",
    )


def _policy_rows(view: StatusView, wide: bool) -> list[Row]:
    return [_policy(one) for one in view.policies]


def _policy(one: PolicyView) -> Row:
    said = "; ".join(filter(None, (policy_reason(one), *one.notes)))
    return one.key, mark(one.realized), ", ".join(one.isolates) or "-", str(one.pods), said or "-"


def _pod_rows(view: StatusView, wide: bool) -> list[Row]:
    shown = PODS_TABLE.wide if wide else PODS_TABLE.columns
    return [_cut(_pod(one), PODS_TABLE.wide, shown) for one in view.pods]


def _pod(one: PodView) -> Row:
    return (
        one.key,
        one.node or "-",
        one.port or "-",
        "-" if one.ofport is None else str(one.ofport),
        ", ".join(one.addresses) or "-",
        one.mac or "-",
        ", ".join(one.isolated) or dim("no"),
        mark(one.installed),
        seconds(one.programmed_after),
        str(one.limited),
        "; ".join(filter(None, (pod_reason(one), dropped_by_limits(one)))) or "-",
    )


def _problem_rows(view: StatusView, wide: bool) -> list[Row]:
    return [(one.kind, one.name, one.reason) for one in findings(view)]


SOURCES_TABLE = StatusTable(
    "Sources",
    ("SOURCE", "KIND", "SYNCED", "AGE", "PROBLEMS", "REASON"),
    ("SOURCE", "KIND", "SYNCED", "AGE", "PROBLEMS", "REASON"),
    _source_rows,
    right="PROBLEMS",
    whole="SOURCE KIND AGE",
)
IGNORED_TABLE = StatusTable(
    "Passed over in the sources",
    ("SOURCE", "WHAT", "NUMBER"),
    ("SOURCE", "WHAT", "NUMBER"),
    _ignored_rows,
    right="NUMBER",
    whole="SOURCE",
)
SWITCHES_TABLE = StatusTable(
    "Switches",
    ("NODE", "BRIDGE", "OPENFLOW", "FLOWS", "FOREIGN", "STATE", "REASON"),
    (
        "NODE",
        "BRIDGE",
        "DATAPATH ID",
        "OVSDB ADDRESS",
        "OVS",
        "DATAPATH",
        "UPLINK",
        "OVSDB",
        "OPENFLOW",
        "FLOWS",
        "FOREIGN",
        "UNBOUND",
        "LAST COMMIT",
        "STATE",
        "REASON",
    ),
    _switch_rows,
    right="FLOWS FOREIGN UNBOUND",
    whole="NODE BRIDGE OPENFLOW OVSDB STATE",
)
POLICIES_TABLE = StatusTable(
    "Policies",
    ("POLICY", "REALIZED", "ISOLATES", "PODS", "REASON"),
    ("POLICY", "REALIZED", "ISOLATES", "PODS", "REASON"),
    _policy_rows,
    right="PODS",
    whole="POLICY",
)
PODS_TABLE = StatusTable(
    "Pods",
    ("POD", "NODE", "ADDRESSES", "ISOLATED", "INSTALLED", "REASON"),
    ("POD", "NODE", "PORT", "OFPORT", "ADDRESSES", "MAC", "ISOLATED", "INSTALLED", "TOOK", "LIMITED", "REASON"),
    _pod_rows,
    right="OFPORT TOOK LIMITED",
    whole="POD NODE PORT MAC",
)
PROBLEMS_TABLE = StatusTable(
    "Problems", ("KIND", "NAME", "REASON"), ("KIND", "NAME", "REASON"), _problem_rows, whole="KIND"
)
STATUS_TABLES = {"problems": PROBLEMS_TABLE, "switches": SWITCHES_TABLE, "policies": POLICIES_TABLE, "pods": PODS_TABLE}
