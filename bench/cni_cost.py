"""Measures what the CNI plugin's ADD takes until the pod's policy is in force: of one pod at a time, and of 60 at once
on a node. Called as a container runtime calls it, on one real Open vSwitch under `headgate run --network overlay`.

Figures are wall-clock times, from the start of the plugin's process to its end. The node is that of the plugin's tests
(tests/helpers/node), so this runs from a checkout alone. Needs root, and the standard CNI plugins.
"""

from __future__ import annotations

import json
import os
import resource
import select
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.result import Result, cpu_of, quantile
from bench.worlds import ApiObject, label_selector, namespace_manifest, policy_manifest

if TYPE_CHECKING:
    from tests.helpers.controller.headgate_process import Headgate
    from tests.helpers.node.cni_node import CniNode

ONE_ROUNDS, CROWD = 30, 60
CROWD_ROUNDS = 5
ELSEWHERE = 1000  # pods of another node, which are peers of the policies
APPS = 20
_NAMESPACE = "x"  # that of the plugin's tests


def measure_cni(scale: float) -> list[Result]:
    """Both figures. The number of pods is the same at any scale; a short run has fewer rounds."""
    from tests.helpers.node.cni_node import cni_node

    rounds = (ONE_ROUNDS, CROWD_ROUNDS) if scale >= 1 else (10, 2)
    with cni_node() as node, tempfile.TemporaryDirectory(prefix="hg-bench-") as folder:
        for number in range(CROWD):
            node.container(_pod(number))
        alone = _alone(node, rounds)
        controller = _lead(node, Path(folder))
        try:
            return _figures(node, controller, rounds, alone)
        finally:
            controller.stop()


def _figures(
    node: CniNode, controller: Headgate, rounds: tuple[int, int], alone: tuple[list[float], list[float]]
) -> list[Result]:
    ones, crowd, seconds = _rounds(node, rounds, controller.process.pid)
    plugin, leader = seconds
    world: dict[str, float | str] = {"pods elsewhere": ELSEWHERE, "policies": APPS}
    one_more: dict[str, float | str] = {
        "p99": 1e3 * quantile(ones, 0.99),
        "marked by a program that knows no policy": 1e3 * statistics.median(alone[0]),
    }  # fmt: skip
    crowd_more: dict[str, float | str] = {
        "p50": quantile(crowd, 0.5), "marked by a program that knows no policy": quantile(alone[1], 0.99),
        "of each plugin with host-local, CPU ms": 1e3 * plugin, "of the controller for all, CPU ms": 1e3 * leader,
    }  # fmt: skip
    return [
        Result("CNI ADD with the policy in force, one pod, p50", 1e3 * statistics.median(ones), "ms", 250, 120,
               more=one_more | world),
        Result(f"CNI ADD with the policy in force, {CROWD} at once, p99", quantile(crowd, 0.99), "s", 3, 1.5,
               more=crowd_more | world),
    ]  # fmt: skip


def _alone(node: CniNode, rounds: tuple[int, int]) -> tuple[list[float], list[float]]:
    """What the plugin and Open vSwitch take without a controller: the node's stand-in marks each port at once."""
    ones, crowd, _ = _rounds(node, (max(3, rounds[0] // 3), 1), os.getpid())
    node.controller.stop()
    return ones, crowd


def _rounds(node: CniNode, rounds: tuple[int, int], pid: int) -> tuple[list[float], list[float], tuple[float, float]]:
    """Seconds of each ADD, one at a time and in crowds; CPU seconds of one plugin, and of process `pid` for a crowd."""
    names = [_pod(number) for number in range(CROWD)]
    ones: list[float] = []
    for _ in range(rounds[0]):
        ones += _run(node, "ADD", names[:1])
        _run(node, "DEL", names[:1])
    crowd: list[float] = []
    plugin = other = 0.0
    for _ in range(rounds[1]):
        children, process = _cpu_of_children(), cpu_of(pid)
        crowd += _run(node, "ADD", names)
        plugin += (_cpu_of_children() - children) / CROWD / rounds[1]
        other += (cpu_of(pid) - process) / rounds[1]
        _run(node, "DEL", names)
    return ones, crowd, (plugin, other)


def _cpu_of_children() -> float:
    """The CPU seconds of the processes that have ended, with those that they had started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run(node: CniNode, command: str, names: Sequence[str]) -> list[float]:
    """Start the plugin for all at once, and return the seconds that each took. Raises RuntimeError if one fails."""
    from tests.helpers.node.cni_node import finish

    running, taken = {}, []
    poll = select.poll()
    try:
        for name in names:
            start = time.monotonic()
            process = node.start(command, name, timeout=60)
            file = os.pidfd_open(process.pid)
            poll.register(file, select.POLLIN)
            running[file] = (process, start)
        for _ in names:
            for file, _event in poll.poll(120_000)[:1] or _nobody():
                process, start = running.pop(file)
                taken.append(time.monotonic() - start)
                poll.unregister(file)
                os.close(file)
                answer = finish(process)
                if answer.status:
                    raise RuntimeError(f"{command}: {answer.result} {answer.errors[-500:]}")
    finally:
        for file, (process, _) in running.items():
            os.close(file)
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
    return taken


def _nobody() -> list[tuple[int, int]]:
    raise RuntimeError("the plugin did not end")


def _lead(node: CniNode, folder: Path) -> Headgate:
    """Have a real controller lead the node, and wait until the node can attach pods."""
    from tests.helpers.controller.headgate_process import Headgate
    from tests.helpers.waiting import until

    for key in ("network", "pod-cidrs", "mtu", "revision"):
        node.ovs.vsctl("remove", "Bridge", "br-int", "external_ids", f"headgate-{key}")
    node.ovs.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=n1")
    arguments = ("--network", "overlay", "--service-cidr", "10.96.0.0/16", "--ovsdb", node.ovs.remote)
    controller = Headgate("native", folder, *arguments, method="tcp", listen=False)
    try:
        objects = {"apiVersion": "v1", "kind": "List", "items": _objects()}
        (controller.manifests / "world.json").write_text(json.dumps(objects))
        controller.start()
        until(lambda: node.call("STATUS").status == 0 and controller.in_sync("n1"), "the controller")
    except BaseException:
        controller.stop()
        raise
    return controller


def _objects() -> list[ApiObject]:
    """Two nodes. Each app of the namespace may be reached by another app alone, and reach that."""
    policies = []
    for number in range(APPS):
        next_app = [{"podSelector": label_selector(app=_app(number + 1))}]
        policies.append(
            policy_manifest(_NAMESPACE, f"p{number}", label_selector(app=_app(number)),
                            ingress=[{"from": next_app, "ports": [{"port": 8080}]}], egress=[{"to": next_app}])
        )  # fmt: skip
    here = [_pod_manifest(_pod(number), number, "n1", None) for number in range(CROWD)]
    there = [
        _pod_manifest(f"far{number}", number, "n2", f"10.244.{8 + number // 250}.{2 + number % 250}")
        for number in range(ELSEWHERE)
    ]
    nodes = [_node("n1", 1, "10.244.1.0/24"), _node("n2", 2, "10.244.8.0/21")]
    return [namespace_manifest(_NAMESPACE), *nodes, *policies, *here, *there]


def _node(name: str, number: int, cidr: str) -> ApiObject:
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr, f"fd00:10:244:{number}::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{number}"}]},
    }  # fmt: skip


def _pod_manifest(name: str, number: int, node: str, address: str | None) -> ApiObject:
    status: dict[str, Any] = {"phase": "Pending"}
    if address is not None:
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": _NAMESPACE, "uid": f"uid-{name}", "labels": {"app": _app(number)}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}, "status": status,
    }  # fmt: skip


def _pod(number: int) -> str:
    return f"c{number}"


def _app(number: int) -> str:
    return f"app-{number % APPS}"
