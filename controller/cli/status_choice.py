"""What `headgate status` is asked to show, and the part of a status that concerns one node. Nothing is drawn here."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from controller.status.model import ProblemView, StatusView


class StatusChoice(NamedTuple):
    """What to show: `tables` by name, `everything` beside them, only one `node` if given, `wide` for all columns.

    `server` is the URL of the controller, for the first line.
    """

    tables: tuple[str, ...] = ()
    everything: bool = False
    node: str = ""
    wide: bool = False
    server: str = ""


def of_node(view: StatusView, node: str) -> StatusView:
    """The part of a status that concerns one node; what concerns no node (sources, policies, objects) is left out."""
    bridges = {f"{switch.node} ({switch.bridge})" for switch in view.switches if switch.node == node}
    return replace(
        view,
        sources=(),
        ovsdb=tuple(o for o in view.ovsdb if o.remote in {s.ovsdb for s in view.switches if s.node == node}),
        switches=tuple(switch for switch in view.switches if switch.node == node),
        policies=(),
        pods=tuple(pod for pod in view.pods if pod.node == node),
        problems=tuple(problem for problem in view.problems if _is_of_bridge(problem, bridges)),
        nodes=tuple(one for one in view.nodes if one.node == node),
        plain=(),
        tls=None,
    )


def _is_of_bridge(problem: ProblemView, bridges: set[str]) -> bool:
    """Whether the problem is one of these bridges, as foreign flows are."""
    return not problem.key and problem.where in bridges
