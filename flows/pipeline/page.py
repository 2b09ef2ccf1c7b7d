"""The page docs/pipeline.md, made from the declaration: tables, the way between them, registers, zones and cookies."""

from __future__ import annotations

import sys

from flows.pipeline import cookies, registers
from flows.pipeline.tables import TABLES, Table

PAGE_HEAD = """# The pipeline

This page is generated from `flows/pipeline/tables.py` and `flows/pipeline/registers.py` by `make docs`; edit those.

A packet enters at `classify`. Every packet is judged, in both directions: the rules match the *original* direction of
its
connection (`ct_nw_src`, `ct_tp_dst` and so on), so a reply meets the same rules as the packet that it answers, and a
policy that changes stops or resumes a running connection at its next packet, whichever way that goes.
On the userspace datapath of an Open vSwitch before 3.1.3 each table where packets enter also has a flow at priority
65535 that no packet matches, a cache mark (adr/0015-cache-marks.md).
`ovs-ofctl --names -O OpenFlow14 dump-flows br-int` shows the tables by these names; `headgate flows` adds pods,
policies and rules.
"""


def pipeline_markdown() -> str:
    """The whole page as Markdown."""
    return "\n".join([PAGE_HEAD, *_graph(), *_tables(), *_registers(), *_zones(), *_cookies(), *_priorities()])


def _graph() -> list[str]:
    lines = ["```mermaid", "flowchart LR"]
    lines += [f"  {table.name} --> {target}" for table in TABLES for target in table.leads_to]
    return [*lines, "```", ""]


def _tables() -> list[str]:
    lines = ["## Tables", ""]
    for table in TABLES:
        lines += [*_table(table), ""]
    return lines


def _table(table: Table) -> list[str]:
    onward = ", ".join(f"`{name}`" for name in table.leads_to) or "nowhere: the packet leaves here"
    matches = ", ".join(f"`{name}`" for name in sorted(table.fields)) or "nothing"
    return [
        f"### {table.number} {table.name}",
        "",
        table.does,
        "",
        f"- leads to: {onward}",
        f"- may match: {matches}",
        f"- miss: {table.miss}",
    ]


def _registers() -> list[str]:
    lines = ["## Registers", "", "| register | bits | holds |", "|---|---|---|"]
    for place in registers.RANGES:
        bits = str(place.start) if place.start == place.end else f"{place.start}..{place.end}"
        lines.append(f"| {place.register.name} | {bits} | {place.meaning} |")
    itself, behind = f"`{registers.NODE_ITSELF:#x}`", f"`{registers.BEHIND_NODE:#x}`"
    return [*lines, "", f"Ports are ofports; {itself} is the node itself, {behind} whatever is reached through it.", ""]


def _zones() -> list[str]:
    return [
        "## Conntrack zones",
        "",
        "| zone | for |",
        "|---|---|",
        f"| {registers.CONNTRACK_ZONE} | every connection that policy let through, and nothing else |",
        f"| {registers.EMPTY_CONNTRACK_ZONE} | nothing, ever: what is looked up here is new, with its header's tuple |",
        "",
    ]


def _cookies() -> list[str]:
    lines = ["## Cookies", ""]
    lines.append(
        f"The upper 16 bits of every flow of ours are `{cookies.COOKIE_PREFIX:#x}`, the next 8 the kind, the lower "
        "40 a number. Other flows on the bridge are never touched."
    )
    meaning = {
        cookies.CookieKind.PIPELINE: "a flow that does not depend on one port or rule; number 0",
        cookies.CookieKind.PORT: "the ofport whose admission and delivery it is",
        cookies.CookieKind.CLAUSE: "one dimension of one or more rules; number 0",
        cookies.CookieKind.RULE: "a conjunction id: the flow that allows, and counts, for one rule",
        cookies.CookieKind.DENY_EGRESS: "the ofport whose isolation for egress drops, and is counted",
        cookies.CookieKind.DENY_INGRESS: "the ofport whose isolation for ingress drops, and is counted",
        cookies.CookieKind.LEARNED: "made by the switch's own learn action; never compared, never deleted",
        cookies.CookieKind.SENT: "the ofport whose IP packets it admits, and counts",
        cookies.CookieKind.INVALID: "the ofport whose invalid packets it drops, and counts",
        cookies.CookieKind.BROKEN: "likewise, of those that are invalid by themselves, as with a wrong checksum",
    }
    lines += ["", "| kind | name | number |", "|---|---|---|"]
    lines += [f"| {kind.value} | {kind.name.lower()} | {text} |" for kind, text in meaning.items()]
    return [*lines, ""]


def _priorities() -> list[str]:
    return [
        "## Rules",
        "",
        "A rule is a conjunctive match: one flow for each subject, peer and port, and one that allows when a packet",
        "meets one of each, so its cost is the sum of its sets. Rules that say the same share one conjunction. Flows",
        "of several rules with one match are one flow with several `conjunction` actions; when those outgrow a",
        "message, rules are spread over neighboring priorities.",
        "",
    ]


if __name__ == "__main__":
    sys.stdout.write(pipeline_markdown())
