"""What is not realized yet, as lines for `/wait`, read from the reconciler.

Must not live here: the waiting itself (`controller.runtime.wait`), and the views of `/status` (`incremental`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from controller.reconcile.problem import Problem
from controller.reconcile.reconciler import Reconciler
from controller.status.model import NO_CONNECTION
from controller.status.node_views import lacking
from controller.status.policy_views import closed_reasons, cluster_policy_errors, left_out_reasons
from controller.status.switch_views import switch_error
from flows.cluster.model import Key

MAX_MISSING_LINES = 1000


def unrealized(reconciler: Reconciler, revision: int) -> Iterator[str]:
    """What is not realized of the world at `revision`, a line each."""
    yield from unrealized_switches(reconciler, revision)
    yield from nodes_not_ready(reconciler)
    if reconciler.world.cluster is not None:
        yield from source_problem_lines(reconciler.problems, policy_problems(reconciler))


def unrealized_switches(reconciler: Reconciler, revision: int) -> Iterator[str]:
    """The lines that can disappear although no source changes: bridges that do not have all desired flows yet."""
    if reconciler.world.cluster is None:
        yield "the sources have not been read completely yet"
        return
    yield from (f"{problem.where}: {problem.reason}" for problem in reconciler.missing_bridges())
    unwritten = reconciler.ports.unwritten()
    for name, bridge in sorted(reconciler.world.bridges.items()):
        if not reconciler.roles.owns(name):
            continue  # another replica answers for it
        where = f"{bridge.node or bridge.ovsdb} ({bridge.name})"
        switch = reconciler.switch_of(name)
        error = switch_error(reconciler, name)
        if error:
            yield f"{where}: {error}"
        if reconciler.world.refusal(name):
            continue
        if switch is None or switch.session is None:
            yield f"{where}: the switch has no OpenFlow connection to this controller"
        elif not reconciler.roles.may_write(switch.dpid):
            yield f"{where}: it has not been taken over by this replica yet"
        elif not switch.realized and switch.realized_revision < revision:
            yield f"{where}: it does not have all desired flows yet"
        elif switch.foreign_flows:
            yield f"{where}: Headgate's tables have flows that Headgate did not make; see headgate flows --foreign"
        elif unwritten.get(bridge.ovsdb):
            yield f"{where}: its ports are not marked as installed yet"


def nodes_not_ready(reconciler: Reconciler) -> Iterator[str]:
    """The nodes of a network that routes which lack anything beside a connection of their switch, a line each."""
    for node, missing in lacking(reconciler).items():
        words = "; ".join(one for one in missing if one != NO_CONNECTION)
        if words:
            yield f"node {node}: {words}"


def policy_problems(reconciler: Reconciler) -> dict[Key, str]:
    """Policies that cannot be wholly realized as they are written, and why."""
    policies = reconciler.world.cluster.policies.values() if reconciler.world.cluster else ()
    found = {policy.key: "; ".join(policy.errors) for policy in policies if policy.errors}
    cluster_policies = reconciler.world.cluster.cluster_policies if reconciler.world.cluster else {}
    for policy_of_cluster in cluster_policies.values():
        if errors := cluster_policy_errors(reconciler, policy_of_cluster):
            found[policy_of_cluster.key] = "; ".join(errors)
    for key, reason in left_out_problems(reconciler).items():
        found[key] = f"{found[key]}; {reason}" if key in found else reason
    return found


def left_out_problems(reconciler: Reconciler) -> dict[Key, str]:
    """Policies with rules that bridges have no room for."""
    out = reconciler.world.left_out()
    policies = reconciler.world.cluster.policies if reconciler.world.cluster and out else ()
    found = ((key, left_out_reasons(reconciler, key, out)) for key in policies if key.namespace in out)
    closed = reconciler.world.closed_policies()
    of_tiers = ((key, closed_reasons(reconciler, key, closed)) for key in closed)
    return {key: reasons[0] for key, reasons in (*found, *of_tiers) if reasons}


def source_problem_lines(problems: Iterable[Problem], policy_problems: Mapping[Key, str]) -> list[str]:
    """The problems that only a change of the sources can mend, a line each."""
    lines = []
    for problem in problems:
        object_and_field = " ".join(filter(None, (problem.key, problem.field)))
        lines.append(": ".join(filter(None, (problem.where, object_and_field, problem.reason))))
    return [*lines, *(f"policy {key}: {reason}" for key, reason in policy_problems.items())]


def first_lines(lines: Iterable[str]) -> list[str]:
    """The first lines, and how many more there are."""
    lines = iter(lines)
    found = list(islice(lines, MAX_MISSING_LINES))
    more = sum(1 for _ in lines)
    return [*found, f"and {more} more"] if more else found
