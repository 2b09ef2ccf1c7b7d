"""The short form: a cluster comes up, Services work, policy is in force through them is revoked, nothing is left."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.cluster.workload import WEB, Workload, eventually
from topology.cluster import cgroups
from topology.cluster.cluster import Cluster
from topology.host import process


def test_policy_through_a_cluster_ip_and_its_revocation(work: Workload) -> None:
    for name, node in (("server", "n1"), ("friend", "n2"), ("stranger", "n2")):
        work.pod(name, node)
    work.wait_ready()
    addresses = [*work.service("server", "server")["clusterIPs"]]
    for address in addresses:
        eventually(lambda address=address: work.reaches("friend", address), f"friend reaches {address}")
        assert work.reaches("stranger", address)
        assert work.reaches("server", address), "to itself through the Service"
    work.isolate("server", "friend")
    eventually(lambda: not work.reaches("stranger", addresses[0]), "the policy is in force")
    for address in addresses:
        assert work.reaches("friend", address)
        assert not work.reaches("stranger", address)
    work.isolate("server")
    eventually(lambda: not work.reaches("friend", addresses[0]), "it is revoked")
    assert not any(work.reaches(pod, address) for pod in ("friend", "stranger") for address in addresses)
    # Probes come from the node, which policy does not stop.
    work.wait_ready("server")


def test_what_a_user_does_with_a_pod(work: Workload) -> None:
    """exec, logs and port-forward come through the API server and the kubelet, and reach an isolated pod, too; the API
    server's proxy comes from outside, so it reaches pods that policy leaves open."""
    work.pod("server", "n1")
    work.wait_ready()
    work.isolate("server")
    assert work.kubectl.exec(work.namespace, "server", "/agnhost", "--help").returncode == 0
    assert "server" in work.kubectl.run("-n", work.namespace, "logs", "server")
    assert work.ask("n1", work.addresses("server")[0], WEB, "/hostname") == "server"
    work.pod("open", "n2")
    work.wait_ready("open")
    proxy = f"/api/v1/namespaces/{work.namespace}/pods/open:{WEB}/proxy"
    assert work.kubectl.run("get", "--raw", f"{proxy}/hostname") == "open"
    command = work.kubectl.command("-n", work.namespace, "port-forward", "pod/server", f":{WEB}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout is not None
        port = forward.stdout.readline().split(":")[1].split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/hostname", timeout=10) as answer:
            assert answer.read() == b"server"
        forward.terminate()


def test_every_node_is_ready_for_the_controller(cluster: Cluster) -> None:
    with urllib.request.urlopen(f"{cluster.server}/status", timeout=10) as answer:
        nodes = json.load(answer)["nodes"]
    assert [(node["node"], node["missing"]) for node in nodes] == [("n1", []), ("n2", [])]


def test_nothing_is_left_after_it() -> None:
    """On a cluster of its own that is broken off in the middle."""
    made = Cluster("left")
    made.down()
    assert not made.folder.exists()
    broken = Cluster("left")

    def stop(text: str) -> None:
        if text.startswith("waiting until all nodes"):
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        broken.up(nodes=1, progress=stop)
    assert not broken.folder.exists()
    assert not process.find(broken.folder)
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{cgroups.group_name('left', '')}*"))
    assert str(broken.folder) not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
