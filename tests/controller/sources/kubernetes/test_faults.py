"""Whatever happens between Headgate and the API server, it ends in the right world, and no world in between is wrong.

In each test a policy comes first and then a pod for it, while the source is away: a world that has the pod without
the policy would leave it open. How long it took to recover is printed in the summary, and not judged.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.reconcile.events import ClusterChanged
from flows.cluster.model import Key
from tests.controller.sources.kubernetes.test_reading import namespace, pod, policy
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.kubernetes_source import RunningSource
from tests.helpers.controller.tcp_proxy import Proxy
from tests.helpers.truth.layout import Manifest
from tests.helpers.waiting import WAIT_SECONDS

PLACE = "faults"
SILENCE = 3.0  # seconds; so that a test of silence does not take minutes
numbers = itertools.count()
Record = Callable[[str, float], None]


class Scene:
    """A source behind a proxy, a policy and a pod that stay, and one of each that come while the source is away."""

    def __init__(self, api: ApiServer, proxy: Proxy, folder: Path) -> None:
        self.api = api
        self.proxy = proxy
        self.folder = folder
        self.reader = RunningSource(api.credentials(folder, proxy.port), SILENCE)
        number = next(numbers)
        self.staying = [policy(f"stay-{number}", PLACE), pod(f"stay-{number}", {"app": "x"}, PLACE)]
        self.coming = [policy(f"come-{number}", PLACE), pod(f"come-{number}", {"app": "x"}, PLACE)]
        self.stays = Key(PLACE, f"stay-{number}")
        self.comes = Key(PLACE, f"come-{number}")
        self._began = 0.0

    def arrive(self) -> None:
        """What comes, in its order, one after the other."""
        for manifest in self.coming:
            self.api.apply([manifest])

    def leave(self) -> None:
        """It goes again in the other order."""
        for manifest in reversed(self.coming):
            self.api.delete([manifest])

    def reachable_again(self) -> None:
        """From here on the time to recover counts."""
        self._began = time.monotonic()

    def recovered(self) -> float:
        """Wait until what came is known. The seconds since `reachable_again`."""
        self.reader.until(lambda: self.comes in self.reader.cluster.pods and self.comes in self.reader.cluster.policies)
        taken = time.monotonic() - self._began
        self.reader.until(lambda: self.reader.source.state().reason == "")
        self.check()
        assert self.reader.reread() == self.reader.cluster
        return taken

    def check(self) -> None:
        """No world that was ever posted is wrong."""
        for change in self.reader.posted:
            self._check_one(change)

    def _check_one(self, change: ClusterChanged) -> None:
        pods, policies = change.cluster.pods, change.cluster.policies
        assert self.stays in pods
        assert self.stays in policies
        assert PLACE in change.cluster.namespaces
        assert self.comes not in pods or self.comes in policies


@pytest.fixture
def scene(api: ApiServer, tmp_path: Path) -> Iterator[Scene]:
    proxy = Proxy(api.port)
    one = Scene(api, proxy, tmp_path)
    try:
        api.apply([namespace(PLACE)])
        api.apply(one.staying)
        with one.reader as reader:
            reader.wait_synced()
            yield one
        api.kubectl("delete", "pods,networkpolicies", "--all", "-n", PLACE, "--grace-period=0", "--force")
    finally:
        proxy.close()


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Have a time to recover shown in the summary."""
    return lambda name, seconds: record_property(f"recovery: {name}", f"{seconds:.2f} s")


def age(scene: Scene) -> float:
    current_at = scene.reader.source.state().current_at
    assert current_at is not None
    return time.monotonic() - current_at


def test_connections_cut(scene: Scene, record: Record) -> None:
    scene.proxy.cut()
    scene.reachable_again()
    scene.arrive()
    record("connections cut, the server stays", scene.recovered())


def test_network_away(scene: Scene, record: Record) -> None:
    with scene.proxy.away():
        scene.arrive()
        scene.reader.until(lambda: scene.reader.source.state().reason != "")
        before = age(scene)
        assert scene.reader.until(lambda: age(scene) > before + 1)
        assert scene.comes not in scene.reader.cluster.pods
        with pytest.raises(TimeoutError, match="did not answer"):
            scene.reader.store.reread(0.5)
    scene.reachable_again()
    record("network away for seconds", scene.recovered())


def test_half_open_connections(scene: Scene, record: Record) -> None:
    with scene.proxy.silent():
        scene.reachable_again()
        scene.arrive()
        record(f"half-open connections, silence of {SILENCE:g} s", scene.recovered())


def test_half_open_connections_and_a_reread(scene: Scene, record: Record) -> None:
    with scene.proxy.silent():
        scene.arrive()
        scene.reachable_again()
        cluster = scene.reader.reread()
        record("half-open connections, when asked to read again", time.monotonic() - scene._began)
        assert scene.comes in cluster.pods
        assert scene.comes in cluster.policies
    scene.check()


def test_server_killed_and_restarted(scene: Scene, record: Record) -> None:
    scene.api.kill()
    scene.reader.until(lambda: scene.reader.source.state().reason != "")
    scene.api.start()
    scene.reachable_again()
    scene.arrive()
    record("API server killed and restarted", scene.recovered())


def test_one_watch_says_late_what_it_missed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are there again, but what the policies' watch has to say takes its time, on a slow machine for instance."""
    slow = Slow(scene.reader, "networkpolicies", "_apply_events", monkeypatch)
    with scene.proxy.away():
        scene.arrive()
    scene.reader.until(slow.reached.is_set)
    time.sleep(2)
    assert scene.comes not in scene.reader.cluster.pods
    assert "all earlier changes" in scene.reader.source.state().reason
    slow.go_on.set()
    scene.reachable_again()
    scene.recovered()


def test_the_first_world_is_one_that_was(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds are listed one after the other, and what comes in between is in some lists and not in others."""
    reader = RunningSource(scene.reader.source.name)
    pods = Slow(reader, "pods", "_list", monkeypatch)
    policies = Slow(reader, "networkpolicies", "_apply_events", monkeypatch)
    with reader:
        reader.until(
            lambda: all(
                one.progress.resource_version or one.resource.plural in SLOW_OR_ABSENT
                for one in reader.source._reflectors
            )
        )
        scene.arrive()
        pods.go_on.set()
        reader.until(policies.reached.is_set)
        time.sleep(1)
        assert not reader.posted
        policies.go_on.set()
        reader.wait_synced()
        world = reader.posted[0].cluster
        assert scene.comes in world.pods
        assert scene.comes in world.policies


# The API server has no definition of the last four.
SLOW_OR_ABSENT = (
    "pods", "networkpolicys", "clusternetworkpolicies", "adminnetworkpolicies", "baselineadminnetworkpolicies",
)  # fmt: skip


class Slow:
    """A method of the reader of one kind of object that does not go on before it is told to."""

    def __init__(self, reader: RunningSource, plural: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        (reflector,) = (one for one in reader.source._reflectors if one.resource.plural == plural)
        original = getattr(reflector, method)
        self.reached = threading.Event()
        self.go_on = threading.Event()

        def wait(*arguments: object) -> None:
            self.reached.set()
            self.go_on.wait(WAIT_SECONDS)
            original(*arguments)

        monkeypatch.setattr(reflector, method, wait)


def test_history_compacted_under_a_watch(scene: Scene, record: Record) -> None:
    """While the source is away, things come and go, etcd forgets, and the server restarts with an empty cache."""
    with scene.proxy.away():
        scene.arrive()
        scene.leave()
        scene.arrive()
        scene.api.kill()
        scene.api.compact()
        scene.api.start()
        lists = scene.reader.source.lists
    scene.reachable_again()
    record("etcd compacted under a watch (410 Gone)", scene.recovered())
    assert scene.reader.source.lists > lists


def test_token_expired_and_replaced(scene: Scene, record: Record) -> None:
    """The server takes the token no more; then a new one lies in the file."""
    account = ("serviceaccount", "headgate", "-n", "headgate")
    scene.api.kubectl("delete", *account)
    scene.reader.until(lambda: refused(scene))
    scene.api.kubectl("create", *account)
    scene.arrive()
    state = scene.reader.source.state()
    assert "401" in state.reason
    assert scene.comes not in scene.reader.cluster.pods
    scene.api.new_token(scene.folder)
    scene.reachable_again()
    record("token revoked, then replaced", scene.recovered())


def refused(scene: Scene) -> bool:
    """Have the watches opened again until the server has forgotten that it took the token (10 s)."""
    scene.proxy.cut()
    time.sleep(0.5)
    return "401" in scene.reader.source.state().reason


def test_rights_taken_away(scene: Scene, record: Record) -> None:
    """A source that may not look any more keeps what it knows, and says so."""
    binding = ("clusterrolebinding", "headgate")
    scene.api.kubectl("delete", *binding)
    scene.proxy.cut()
    scene.reader.until(lambda: "403" in scene.reader.source.state().reason)
    scene.arrive()
    scene.api.credentials(scene.folder, scene.proxy.port)
    scene.reachable_again()
    record("rights taken away and given back", scene.recovered())


REJECTING: list[Manifest] = [
    {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "nothing-for-headgate"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0, "limitResponse": {"type": "Reject"}}},
    },
    {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": "nothing-for-headgate"},
        "spec": {
            "priorityLevelConfiguration": {"name": "nothing-for-headgate"},
            "matchingPrecedence": 2,
            "rules": [
                {
                    "subjects": [
                        {"kind": "ServiceAccount", "serviceAccount": {"namespace": "headgate", "name": "headgate"}}
                    ],
                    "resourceRules": [
                        {
                            "verbs": ["*"],
                            "apiGroups": ["*"],
                            "resources": ["*"],
                            "clusterScope": True,
                            "namespaces": ["*"],
                        }
                    ],
                }
            ],
        },
    },
]


def test_too_many_requests(scene: Scene, record: Record) -> None:
    """The server's fairness gives us nothing for a while: 429 with Retry-After."""
    scene.api.apply(REJECTING)
    try:
        scene.reader.until(lambda: rejected(scene))
        scene.arrive()
        assert scene.comes not in scene.reader.cluster.pods
    finally:
        scene.api.delete(REJECTING)
    scene.reachable_again()
    record("429 for seconds", scene.recovered())


def rejected(scene: Scene) -> bool:
    """Have the watches opened again until the server's new rules are in force."""
    scene.proxy.cut()
    time.sleep(0.5)
    return "429" in scene.reader.source.state().reason


def test_etcd_away(scene: Scene, record: Record) -> None:
    """An API server without its etcd answers with 5xx, or with nothing new."""
    scene.api.stop_etcd()
    scene.proxy.cut()
    with pytest.raises(TimeoutError):
        scene.reader.store.reread(5.0)
    assert scene.stays in scene.reader.cluster.policies
    scene.api.start_etcd()
    scene.api.wait()
    scene.reachable_again()
    scene.arrive()
    record("etcd away, the API server answers 5xx", scene.recovered())


def test_all_at_once(scene: Scene, manifests: list[Manifest], record: Record) -> None:
    """Faults that come while another is not over yet."""
    for number, manifest in enumerate(manifests):
        scene.api.apply([manifest])
        if number % 2:
            scene.proxy.cut()
    with scene.proxy.silent():
        scene.arrive()
        scene.api.kill()
    scene.api.start()
    scene.reachable_again()
    record("cut again and again, half-open, and the server restarted", scene.recovered())
    assert {Key(PLACE, one["metadata"]["name"]) for one in manifests} <= scene.reader.cluster.pods.keys()


@pytest.fixture
def manifests() -> list[Manifest]:
    return [pod(f"more-{number}", {"app": "y"}, PLACE) for number in range(10)]
