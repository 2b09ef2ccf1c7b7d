"""Real replicas start together where nobody serves: each switch is written once, by its owner, however late one is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.control_plane import write_kubeconfig
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.replicas import Replica, logs, until_divided
from tests.helpers.ovs.node import Node
from tests.helpers.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.switch]
NODES = [f"n{number}" for number in range(4)]
LONG_LEASE = ("--lease-duration", "100s")  # so long is waited for at most
LATE = "late"


@pytest.fixture
def nodes(api: ApiServer) -> Iterator[dict[str, Node]]:
    found = {name: Node() for name in NODES}
    try:
        for name, node in found.items():
            node.add_bridge()
            node.vsctl("set", "Open_vSwitch", ".", f"external_ids:hostname={name}", f"external_ids:system-id={name}")
        api.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in found])
        yield found
    finally:
        for node in found.values():
            node.stop()
        api.kubectl("delete", "node", "--all")


@pytest.fixture
def replicas(api: ApiServer, nodes: dict[str, Node], tmp_path: Path) -> Iterator[list[Replica]]:
    """r0, and r1, which may use Leases, and cannot read the cluster's objects before `let_read`."""
    remotes = [one.remote for one in nodes.values()]
    kubeconfigs = [api.credentials(tmp_path), late_credentials(api, tmp_path)]
    found = [Replica(f"r{number}", tmp_path, one, remotes, *LONG_LEASE) for number, one in enumerate(kubeconfigs)]
    try:
        yield found
    finally:
        for one in found:
            one.end(signal.SIGKILL)
        api.kubectl("delete", "--all", "--ignore-not-found", "leases", "-n", "headgate")
        api.kubectl("delete", "--ignore-not-found", "clusterrolebinding", LATE)
        for kind in ("rolebinding", "serviceaccount"):
            api.kubectl("delete", "--ignore-not-found", "-n", "headgate", kind, LATE)


def late_credentials(api: ApiServer, folder: Path) -> Path:
    account = f"--serviceaccount=headgate:{LATE}"
    api.kubectl("create", "serviceaccount", LATE, "-n", "headgate")
    api.kubectl("create", "rolebinding", LATE, "-n", "headgate", "--role=headgate-replicas", account)
    token = api.kubectl("create", "token", LATE, "-n", "headgate")
    return write_kubeconfig(folder / LATE, api.port, api.authority, {"token": token})


def let_read(api: ApiServer) -> None:
    api.kubectl("create", "clusterrolebinding", LATE, "--clusterrole=headgate", f"--serviceaccount=headgate:{LATE}")


def leases(api: ApiServer) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in api.get("leases", "-n", "headgate")["items"]}


def test_the_first_one_that_is_ready_waits_for_the_other_and_each_switch_is_written_once(
    api: ApiServer, nodes: dict[str, Node], replicas: list[Replica]
) -> None:
    early, late = replicas
    late.start()
    until(lambda: "headgate-r1" in leases(api), lambda: logs(replicas))
    early.start()
    until(lambda: "waits a moment for r1 to be ready" in str(early.status()), lambda: logs(replicas))
    assert not early.ready()
    assert "headgate" not in leases(api), "nobody has switches yet"
    assert early.primary() == set()
    let_read(api)
    divided = until_divided(replicas, set(nodes))
    assert all(divided.values()), "both have some"
    assert leases(api)["headgate"]["spec"]["leaseTransitions"] == 1
    text = "".join(one.log.read_text() for one in replicas)
    assert text.count("this replica serves the switch now") == text.count("changing flows") == len(nodes)
    assert "steps down there" not in text


def test_one_alone_waits_for_nobody(api: ApiServer, nodes: dict[str, Node], replicas: list[Replica]) -> None:
    alone = replicas[0]
    alone.start()
    until_divided([alone], set(nodes))
    assert not alone.said("waits for those that start")
