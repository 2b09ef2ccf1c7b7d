"""The tables of `headgate status`: their columns, and the rows of a status. See `status_page` for which are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.cli.findings import (
    dropped_by_limits,
    findings,
    pod_reason,
    policy_reason,
    replica_reason,
    switch_reason,
)
from controller.cli.output import BAD, OutputPage, Row, Styled, dim, mark, seconds
from controller.status.model import NodeView, PodView, PolicyView, ReplicaView, SourceView, StatusView, SwitchView

OF_REPLICAS = frozenset({"OWNER", "GENERATION", "OWNED FOR"})  # columns


@dataclass(frozen=True, slots=True)
class StatusTable:
    """One table: its title, its columns without and with `-o wide`, and the function that makes its rows.

    `right` names the columns that are set flush right, `whole` those that never break; both separated by blanks.
    """

    title: str
    columns: tuple[str, ...]
    wide: tuple[str, ...]
    rows: Callable[[StatusView, bool], list[Row]]
    right: str = ""
    whole: str = ""

    def shown(self, view: StatusView, wide: bool) -> tuple[str, ...]:
        """The columns that are shown: those about replicas only where there are any."""
        columns = self.wide if wide else self.columns
        return columns if view.replicas else tuple(name for name in columns if name not in OF_REPLICAS)

    def draw(self, page: OutputPage, view: StatusView, wide: bool) -> None:
        """Print the table; nothing when it has no rows."""
        columns = self.shown(view, wide)
        page.table(self.title, columns, self.rows(view, wide), right=self.right, whole=self.whole)


def _shown_cells(row: Row, names: tuple[str, ...], shown: tuple[str, ...]) -> Row:
    """The shown cells of a row that has all columns."""
    return tuple(cell for name, cell in zip(names, row, strict=True) if name in shown)


def _source_rows(view: StatusView, wide: bool) -> list[Row]:
    return [_source(one) for one in view.sources]


def _source(one: SourceView) -> Row:
    return one.name, one.kind, mark(one.synced), seconds(one.age), str(one.problems), one.reason or "-"


def _ignored_rows(view: StatusView, wide: bool) -> list[Row]:
    return [(one.name, what, str(number)) for one in view.sources for what, number in one.ignored.items()]


def _switch_rows(view: StatusView, wide: bool) -> list[Row]:
    shown = SWITCHES_TABLE.shown(view, wide)
    return [_shown_cells(_switch(one), SWITCHES_TABLE.wide, shown) for one in view.switches]


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
        "-" if one.compare_age is None else f"{seconds(one.compare_age)} ago",
        one.owner or "-",
        one.generation or "-",
        seconds(one.owned_for),
        mark(one.in_sync, "realized", "not realized"),
        reason or "-",
    )


def _replica_rows(view: StatusView, wide: bool) -> list[Row]:
    return [_replica(one) for one in view.replicas]


def _replica(one: ReplicaView) -> Row:
    return (
        one.name,
        mark(one.member, "member", "no member"),
        mark(one.alive, "renewed", "not renewed"),
        f"{seconds(one.age)} ago",
        one.version or "-",
        one.http or "-",
        str(one.owned),
        str(one.primary),
        replica_reason(one) or "-",
    )


def _node_rows(view: StatusView, wide: bool) -> list[Row]:
    shown = NODES_TABLE.wide if wide else NODES_TABLE.columns
    return [_shown_cells(_node(one), NODES_TABLE.wide, shown) for one in view.nodes]


def _node(one: NodeView) -> Row:
    return (
        one.node,
        one.mode,
        one.bridge or "-",
        one.tunnel_end or "-",
        ", ".join(one.pod_cidrs) or "-",
        ", ".join(one.addresses) or "-",
        mark(one.ready, "ready", "not ready"),
        "; ".join(one.missing) or "-",
    )


def _policy_rows(view: StatusView, wide: bool) -> list[Row]:
    return [_policy(one) for one in view.policies]


def _policy(one: PolicyView) -> Row:
    reason = "; ".join(filter(None, (policy_reason(one), *one.notes)))
    directions = ", ".join(one.isolates) or "-"
    what = f"{one.tier} {one.priority}: {directions}" if one.tier else directions
    return one.key, mark(one.realized), what, str(one.pods), reason or "-"


def _pod_rows(view: StatusView, wide: bool) -> list[Row]:
    shown = PODS_TABLE.wide if wide else PODS_TABLE.columns
    return [_shown_cells(_pod(one), PODS_TABLE.wide, shown) for one in view.pods]


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
    ("NODE", "BRIDGE", "OPENFLOW", "FLOWS", "FOREIGN", "OWNER", "STATE", "REASON"),
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
        "LAST AUDIT",
        "OWNER",
        "GENERATION",
        "OWNED FOR",
        "STATE",
        "REASON",
    ),
    _switch_rows,
    right="FLOWS FOREIGN UNBOUND",
    whole="NODE BRIDGE OPENFLOW OVSDB OWNER STATE",
)
REPLICAS_TABLE = StatusTable(
    "Replicas",
    ("REPLICA", "VIEW", "LEASE", "SEEN", "VERSION", "HTTP", "OWNS", "SERVES", "REASON"),
    ("REPLICA", "VIEW", "LEASE", "SEEN", "VERSION", "HTTP", "OWNS", "SERVES", "REASON"),
    _replica_rows,
    right="OWNS SERVES",
    whole="REPLICA VIEW LEASE SEEN",
)
NODES_TABLE = StatusTable(
    "Nodes",
    ("NODE", "MODE", "TUNNEL END", "POD CIDRS", "STATE", "MISSING"),
    ("NODE", "MODE", "BRIDGE", "TUNNEL END", "POD CIDRS", "ADDRESSES", "STATE", "MISSING"),
    _node_rows,
    whole="NODE MODE BRIDGE STATE",
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
STATUS_TABLES = {
    "problems": PROBLEMS_TABLE,
    "replicas": REPLICAS_TABLE,
    "switches": SWITCHES_TABLE,
    "nodes": NODES_TABLE,
    "policies": POLICIES_TABLE,
    "pods": PODS_TABLE,
}
