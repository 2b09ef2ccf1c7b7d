"""What `headgate status` prints: a summary that stays within a screen, or whole tables."""

from __future__ import annotations

from collections.abc import Sequence

from controller.cli.finding_lines import FINDING_LINES, draw_findings, draw_line
from controller.cli.findings import Finding, findings
from controller.cli.output import OutputPage, seconds
from controller.cli.status_choice import StatusChoice
from controller.cli.status_tables import IGNORED_TABLE, SOURCES_TABLE, STATUS_TABLES, StatusTable
from controller.status.model import StatusView

PROMPT_LINES = 1  # the shell's next prompt should not push the first line out
MAX_ADDRESSES_SHOWN = 3  # of a node, in the summary


def show_tables(page: OutputPage, view: StatusView, chosen: StatusChoice) -> None:
    """The chosen tables, each whole."""
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
    """Counts, then the first findings, then each table that still fits as a whole: one screen at most."""
    found = list(findings(view))
    _headline(page, view, found, chosen)
    for missing in view.waiting_for[:FINDING_LINES]:
        draw_line(page, f"  waiting for {missing}")
    for line in _counts(view, chosen.node):
        page.line(line)
    draw_findings(page, found, chosen.node, _left(page))
    for table in (
        STATUS_TABLES["replicas"],
        STATUS_TABLES["switches"],
        STATUS_TABLES["nodes"],
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
        state = "not ready: nothing is sent to switches yet"
    elif found:
        state = f"{len(found):,} problem{'s' * (len(found) != 1)}"
    else:
        state = "nothing is wrong"
    at = f" at {chosen.server}" if chosen.server else ""
    where = f" (node {chosen.node})" if chosen.node else ""
    page.line(f"Headgate {view.version}{at}, up {seconds(view.uptime)}{where}: {state}")


def _counts(view: StatusView, node: str) -> list[str]:
    """One line for each kind of object."""
    switches, policies, pods = view.switches, view.policies, view.pods
    lines = []
    if view.sources:
        synced = sum(source.synced for source in view.sources)
        problems = sum(source.problems for source in view.sources)
        ignored = sum(sum(source.ignored.values()) for source in view.sources)
        tally = {"synced": synced, f"object{'s' * (problems != 1)} not taken": problems, "passed over": ignored}
        lines.append(_count("sources", len(view.sources), tally))
    if view.replicas:
        members, alive = sum(one.member for one in view.replicas), sum(one.alive for one in view.replicas)
        tally = {"members": members, "alive": alive}
        lines.append(_count("replicas", len(view.replicas), tally) + f", epoch {view.epoch}; this is {view.replica}")
    realized, away = sum(s.in_sync for s in switches), sum(not s.openflow_connected for s in switches)
    lines.append(_count("switches", len(switches), {"realized": realized, "away": away}, ("realized",)))
    if view.nodes:
        ready = sum(one.ready for one in view.nodes)
        tally = {"ready": ready, "not ready": len(view.nodes) - ready}
        lines.append(_count("nodes", len(view.nodes), tally, ("ready",)))
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
        more = f" and {len(answered) - MAX_ADDRESSES_SHOWN} more" if len(answered) > MAX_ADDRESSES_SHOWN else ""
        lines.append(f"  the node also answers for {', '.join(answered[:MAX_ADDRESSES_SHOWN])}{more}")
    return lines


def _count(name: str, total: int, tally: dict[str, int], always: tuple[str, ...] = ("synced",)) -> str:
    parts = [f"{number:,} {what}" for what, number in tally.items() if number or (what in always and total)]
    return f"  {name:<9} {total:>9,}{'  ' if parts else ''}{', '.join(parts)}"
