"""What is left out because handling it raised, as problems: each is contained at what it concerns."""

from __future__ import annotations

from collections.abc import Iterator

from controller.reconcile.contained_errors import ContainedErrors
from controller.reconcile.problem import Problem
from flows.plan.world import World
from flows.services.frontends import object_of


def contained_problems(world: World, errors: ContainedErrors) -> Iterator[Problem]:
    """Objects that are left out, ports whose packets are dropped, and bridges whose flows stay as they are."""
    for (kind, key), reason in world.rejected.reasons.items():
        yield Problem("the controller", f"{kind} {key}", "", reason)
    for policy, place, reason in world.rule_errors():
        yield Problem("the controller", f"NetworkPolicy {policy}", place, reason)
    for served, reason in world.refused_service_ports():
        yield Problem("the controller", object_of(served.service.key), f"port {served.port.number}", reason)
    for name, failure in world.failures.items():
        yield Problem(f"bridge {name[1]} at {name[0]}", "", "", failure.reason)
    for (ovsdb, bridge), reason in world.displaced.reasons():
        yield Problem(f"bridge {bridge} at {ovsdb}", "", "", f"it is left out, its switch is left as it is: {reason}")
    for subject, reason in errors.reasons.items():
        yield Problem("the controller", subject, "", f"handling it failed: {reason}")
