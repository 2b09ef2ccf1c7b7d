"""`headgate run` under both hubs, in TLS: real switches, policies that flap, and peers that come and go in numbers.

What must hold afterwards: every thread lives, every switch has exactly the flows that a fresh controller wants, and no
descriptor was closed under a thread that waits on it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from controller.base.hub import HUBS
from tests.helpers.controller.descriptor_watch import FOUND
from tests.helpers.controller.fake_switch import HELLO, PORTS, features, message
from tests.helpers.controller.headgate_process import HOST, Headgate, Pki, SecureNode, anonymous, headgate, secure_node
from tests.helpers.waiting import until

NODES = ("one", "two", "three")
PODS = 6  # on each
SECONDS = 6.0
PROGRAM = "tests.helpers.controller.run_with_descriptor_watch"
# What a log has when something went wrong that nothing stops.
WORDS = (FOUND, "Traceback", "is gone", "failed; going on", "Second simultaneous", "the handler")
Act = Callable[[], None]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki") / "pki")


@pytest.fixture(scope="module")
def nodes(pki: Pki) -> Iterator[dict[str, SecureNode]]:
    with ExitStack() as stack:
        made = {name: stack.enter_context(secure_node(pki.switch(name), name)) for name in NODES}
        for name, node in made.items():
            for number in range(PODS):
                node.add_port(f"p{number}", f"external_ids:iface-id=shop/{name}-{number}")
        yield made


def pod(node: str, number: int, app: int) -> dict[str, object]:
    address = f"10.{NODES.index(node)}.0.{number + 1}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{node}-{number}", "namespace": "shop", "labels": {"app": f"a{app}"}},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }


def policy(number: int, port: int) -> dict[str, object]:
    peer = {"podSelector": {"matchLabels": {"app": f"a{(number + port) % 3}"}}}
    rule = {"from": [peer], "ports": [{"port": port}, {"port": 20000 + port, "protocol": "UDP"}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"p{number}", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": f"a{number}"}}, "ingress": [rule]},
    }


def put(folder: Path, name: str, *objects: dict[str, object]) -> None:
    new = folder / f".{name}"
    new.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    new.rename(folder / name)


def pods(folder: Path, round_: int) -> None:
    """All pods, whose labels are others from round to round."""
    put(folder, "pods.json", *(pod(node, n, (n + round_) % 3) for node in NODES for n in range(PODS)))


@contextmanager
def again_and_again(*acts: Act) -> Iterator[list[int]]:
    """Each in a thread of its own for as long as the block runs; how often each was done."""
    ended, done = threading.Event(), [0] * len(acts)

    def work(number: int, act: Act) -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError, ssl.SSLError):
                act()
            done[number] += 1
            time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(n, act), daemon=True) for n, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        ended.set()
        for thread in threads:
            thread.join(20)


def crowd(run: Headgate, pki: Pki) -> list[Act]:
    """Peers that come and go: silent, with rubbish, without a certificate, and with one, in every state of OpenFlow."""
    known = pki.switch("other").client()
    unknown = anonymous(pki.controller_ca)
    begins = (b"", HELLO, HELLO + features(99), HELLO + features(99) + PORTS, HELLO + message(2) * 2000)
    turns = [0, 0]

    def plain() -> None:
        turns[0] += 1
        for port in (run.openflow, run.ovsdb):
            with socket.create_connection((HOST, port), 5) as one:
                one.sendall((b"", b"\x16\x03\x01", b"GET / HTTP/1.0\r\n\r\n")[turns[0] % 3])

    def secure(context: ssl.SSLContext) -> Act:
        def act() -> None:
            turns[1] += 1
            for port in (run.openflow, run.ovsdb):
                with socket.create_connection((HOST, port), 5) as one, context.wrap_socket(one) as channel:
                    channel.sendall(begins[turns[1] % len(begins)] if port == run.openflow else b'{"id":1,"meth')
                    if turns[1] % 2:
                        channel.recv(1)

        return act

    def ask() -> None:
        with contextlib.suppress(urllib.error.HTTPError):
            run.get("/status")

    return [plain, secure(known), secure(known), secure(unknown), ask]


def flap(folder: Path, nodes: dict[str, SecureNode]) -> list[Act]:
    """Policies, labels and a switch's connections that change all the time."""
    count = [0, 0]

    def policies() -> None:
        count[0] += 1
        number, turn = count[0] % 3, count[0]
        if turn % 5:
            put(folder, f"policy{number}.json", policy(number, 1000 + turn % 50))
        else:
            (folder / f"policy{number}.json").unlink(missing_ok=True)
        if turn % 7 == 0:
            pods(folder, turn)

    def cut() -> None:
        """The OpenFlow connection of a switch is lost, and comes again."""
        count[1] += 1
        node = nodes[NODES[count[1] % len(NODES)]]
        node.vsctl("set-fail-mode", "br-int", "secure", "--", "clear", "Bridge", "br-int", "controller")
        time.sleep(0.7)

    return [policies, cut]


def all_in_sync(run: Headgate) -> bool:
    return all(run.in_sync(name) for name in NODES)


@pytest.mark.parametrize("hub", HUBS)
def test_nothing_dies_and_the_flows_are_those_that_are_wanted(hub: str, pki: Pki, nodes: dict[str, SecureNode]) -> None:
    with headgate(hub, pki, program=PROGRAM) as run:
        folder = run.folder / "manifests"
        pods(folder, 0)
        for node in nodes.values():
            node.vsctl("set-manager", f"ssl:{HOST}:{run.ovsdb}")
        until(lambda: all_in_sync(run))
        with again_and_again(*crowd(run, pki), *flap(folder, nodes)) as done:
            time.sleep(SECONDS)
        assert min(done) >= 3, done
        for number in range(3):
            put(folder, f"policy{number}.json", policy(number, 80 + number))
        pods(folder, 1)
        until(lambda: all_in_sync(run) and len(run.status()["policies"]) == 3, "quiet after the load")
        assert json.loads(run.get("/healthz"))["status"] == "ok"
        wrong = [line for line in run.log.splitlines() if any(word in line for word in WORDS)]
        assert not wrong, "\n".join(wrong[:20]) + run.log[-4000:]
        left = {name: node.flows() for name, node in nodes.items()}
        assert_wanted(hub, pki, run, nodes)
    assert all(left.values())


def assert_wanted(hub: str, pki: Pki, run: Headgate, nodes: dict[str, SecureNode]) -> None:
    """A fresh controller with the same objects finds nothing to change on any switch."""
    run.process.terminate()
    assert run.process.wait(20) == 0
    with headgate(hub, pki, program=PROGRAM) as fresh:
        for path in (run.folder / "manifests").glob("*.json"):
            (fresh.folder / "manifests" / path.name).write_bytes(path.read_bytes())
        until(lambda: len(fresh.status()["policies"]) == 3)
        for node in nodes.values():
            node.vsctl("set-manager", f"ssl:{HOST}:{fresh.ovsdb}")
        until(lambda: all_in_sync(fresh))
        lines = fresh.get("/metrics").splitlines()
        changes = {line for line in lines if line.startswith("headgate_flow_mods_total") and not line.endswith(" 0.0")}
        assert not changes
