"""The tables that `headgate pod` and `headgate policy` share."""

from __future__ import annotations

from collections.abc import Sequence

from controller.cli.names import MAX_NAMES_SHOWN, count_text, first_names
from controller.cli.output import OutputPage, Row
from controller.status.detail_model import PeerView, RuleView, StagedView

SHOWN_RULES = 3  # names of one rule that are shown: several policies may have the same rule
ALL = 1_000_000


def show_rules(page: OutputPage, title: str, rules: Sequence[RuleView], wide: bool) -> None:
    """Print rules with their ports, peers and counters; all peers, and bytes, if `wide`."""
    columns = ("RULE", "PACKETS", *(("BYTES",) if wide else ()), "PORTS", "PEERS")
    rows = [_row(rule, wide) for rule in rules]
    page.table(title, columns, rows, right="PACKETS BYTES", whole="" if wide else "PORTS" * (not _many(rules)))


def show_staged(page: OutputPage, staged: Sequence[StagedView]) -> None:
    """Print what the promotion of staged policies would change, where any is."""
    if staged:
        columns = ("DIRECTION", "DENIED", "ALLOWED", "POLICIES")
        rows: list[Row] = [
            (one.direction, count_text(one.would_deny), count_text(one.would_allow), ", ".join(one.policies) or "-")
            for one in staged
        ]
        page.table("Packets that promotion of staged policies would change", columns, rows, right="DENIED ALLOWED")


def _many(rules: Sequence[RuleView]) -> bool:
    return any(rule.ports is not None and len(rule.ports) > 1 for rule in rules)


def _row(rule: RuleView, wide: bool) -> Row:
    counted = (count_text(rule.packets), *((count_text(rule.bytes),) if wide else ()))
    of_tier = f" ({rule.tier}, {rule.action})" if rule.tier else ""
    return (
        first_names(rule.rules, SHOWN_RULES) + of_tier,
        *counted,
        _ports(rule.ports),
        _peers(rule, ALL if wide else MAX_NAMES_SHOWN),
    )


def _ports(ports: tuple[str, ...] | None) -> str:
    return "all" if ports is None else ", ".join(ports)


def _peers(rule: RuleView, shown: int) -> str:
    if rule.peers is None:
        return "everybody"
    texts = [_peer(peer) for peer in rule.peers]
    return first_names(texts, min(shown, len(texts)), rule.peer_count) or "nobody"


def _peer(peer: PeerView) -> str:
    return f"{'|'.join(peer.pods)} ({peer.address})" if peer.pods else peer.address
