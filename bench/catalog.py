"""All measurements by name, and their execution, each in a process of its own so that memory and hubs do not mix.

The modules that measure are named here by strings and imported only in that process.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bench.result import Result, from_json

SIZES = {"short": 0.1, "full": 1.0}


class Measure(NamedTuple):
    """One measurement: its module and function, the arguments before the scale, and what it shows."""

    module: str
    function: str
    arguments: tuple[str, ...]
    says: str


CATALOG: dict[str, Measure] = {
    **{
        f"world-{name}": Measure(
            "bench.compile_cost", "measure", (name,), f"world {name}: API objects → rules of every node"
        )
        for name in "ABCDEF"
    },
    "linear-E": Measure("bench.compile_cost", "measure_linear", ("E",), "world E: ten times the objects"),
    "linear-F": Measure("bench.compile_cost", "measure_linear", ("F",), "world F: ten times the objects"),
    "rules": Measure("bench.plan_cost", "measure_rules", (), "100 rules x 500 addresses → flows: sums, not products"),
    "node": Measure("bench.plan_cost", "measure_node", (), "desired flows of one node in world A"),
    "changes": Measure("bench.plan_cost", "measure_changes", (), "one object changes in world A with 500 bridges"),
    "tiers": Measure("bench.tiers_cost", "measure_tiers", (), "1,000 ClusterNetworkPolicies of 25 rules, 10,000 pods"),
    "tiered-world": Measure(
        "bench.tiered_world_cost", "measure_tiered_world", (), "world A with 50 Admin policies on all pods: ratios"
    ),
    "wide": Measure("bench.wide_cost", "measure_wide", (), "one pod that 1,000 policies for all namespaces contain"),
    "collisions": Measure("bench.wide_cost", "measure_collisions", (), "rules whose numbers collide, among 10,000"),
    "services": Measure("bench.service_cost", "measure_services", (), "10,000 Services of 10 endpoints on a switch"),
    "matrix": Measure("bench.reach_cost", "measure_matrix", (), "who reaches whom: 2,000 pods, 20,000 by workload"),
    "plan": Measure("bench.reach_cost", "measure_plan", (), "what one changed policy would do in world A"),
    "store": Measure("bench.source_cost", "measure_store", (), "world A through the store, and one change of it"),
    "bulk": Measure("bench.switch_cost", "measure_bulk", (), "100,000 flows to a switch; reconnect; against ovs-ofctl"),
    "crowded": Measure("bench.switch_cost", "measure_crowded", (), "rules too large for one flow message, on a switch"),
    "run": Measure("bench.run_cost", "measure_run", (), "headgate run: change → commit; memory, echo in world A"),
    "flood": Measure("bench.flood_cost", "measure_flood", (), "headgate run: change → commit, during floods of echoes"),
    "http-flood": Measure("bench.flood_cost", "measure_http_flood", (), "headgate run: the same, during HTTP floods"),
    "audit": Measure("bench.audit_cost", "measure_audit", (), "100,000 denied packets a second, audited; needs root"),
    "cluster-traffic": Measure("bench.service_traffic", "measure_service_traffic", (), "ClusterIP, tunnel; needs root"),
    "cni": Measure("bench.cni_cost", "measure_cni", (), "the CNI plugin's ADD, one pod and 60 at once; needs root"),
    "dns": Measure("bench.dns_cost", "measure_dns", (), "DNS answers that a switch holds, beside lies; needs root"),
    "fleet": Measure("bench.fleet_cost", "measure_fleet", (), "500 bridges: start, restart, policy, reboot, rollout"),
    "traffic": Measure("bench.traffic", "measure_traffic", (), "TCP in a lab, compared with NORMAL; needs root"),
}  # fmt: skip


def run_all(names: Iterable[str], scale: float, fleet: tuple[str, ...] = ()) -> Iterator[tuple[str, list[Result], str]]:
    """Run measurements one by one; yields name, results, and the reason if there are none.

    `fleet` are the nodes, pods of each, and replicas of the fleet; "" for those of the scale, and no replicas.
    """
    for name in names:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "bench", name, repr(scale), *(fleet if name == "fleet" else ())],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            yield name, [], (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]
        else:
            yield name, [from_json(raw) for raw in json.loads(done.stdout.splitlines()[-1])], ""


def run_one(name: str, scale: float, *more: str) -> list[Result]:
    """Run one measurement in this process; `more` are its arguments after the scale."""
    measure = CATALOG[name]
    function = getattr(importlib.import_module(measure.module), measure.function)
    found: list[Result] = function(*measure.arguments, scale, *more)
    return found
