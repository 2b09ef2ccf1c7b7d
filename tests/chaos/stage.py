"""The stage of the fault suite: an API server, a lab of four nodes, three replicas, and all links between them.

What a replica announces is asked here, since who may be asked depends on what is broken. Faults are in `faults`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.links import Links
from tests.chaos.wire import Said, SwitchReader
from tests.chaos.world import NODES, REPLICAS, World, standing_policies
from tests.chaos.writers import Heard, Restarted
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.replicas import Replica, logs, until_divided
from tests.helpers.lab.traffic import flows
from tests.helpers.waiting import until
from tests.helpers.wall_clock import WallClock, can_build
from topology.host.machine import require_lab_support
from topology.lab.lab import Lab
from topology.spec.load import check_topology

AFTER_HEALING = 1.0  # seconds in which a healed session may still learn what it missed
ASK_SECONDS = 5.0
ASK_PAUSE = 0.1


@dataclass
class Stage:
    """Everything that runs. `clocks` are the replicas' own, none without a C compiler; `paused` are the replicas that
    are stopped by a signal.
    """

    world: World
    folder: Path
    api: ApiServer
    lab: Lab
    links: Links
    replicas: dict[str, Replica]
    starter: ThreadPoolExecutor
    clocks: Mapping[str, WallClock]
    paused: set[str] = field(default_factory=set)
    heard: list[Heard | Restarted] = field(default_factory=list)
    healed_at: float = 0.0
    api_lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, name: str) -> None:
        """Start a replica, from a thread that lives as long as the stage: it ends with the thread that starts it."""
        self.starter.submit(self.replicas[name].start).result()

    def witness(self) -> Replica | None:
        """A replica that runs and reaches everything, so that its word counts for all; None if there is none now.

        One that is cut off from a switch does not know of another replica that still serves it.
        """
        cut = self.links.cuts()
        for name, one in self.replicas.items():
            links = {f"api {name}", *(f"{kind} {name}/{node}" for kind in ("openflow", "ovsdb") for node in NODES)}
            if one.process is not None and name not in self.paused and not links & cut:
                return one
        return None

    def announced(self) -> bool:
        """Whether a witness says that all is realized of what the API and the switches hold now."""
        if time.monotonic() < self.healed_at + AFTER_HEALING or (one := self.witness()) is None:
            return False
        try:
            said = one.get(f"/wait?timeout={ASK_SECONDS:g}")
        except (OSError, ValueError):  # it was killed in the middle of its answer
            return False
        return bool(said.get("realized")) and self.witness() is one

    def until_whole(self, seconds: float = 90.0) -> None:
        """Wait until all replicas are ready, each switch has its owner, and everything is realized."""
        every = list(self.replicas.values())
        until(lambda: all(one.ready() for one in every), lambda: logs(every), seconds)
        until_divided(every, set(NODES), seconds)
        until(self.announced, lambda: logs(every), seconds)

    def flows(self) -> dict[str, list[str]]:
        """The flows of every switch, as they are compared."""
        return {node: flows(self.lab, node) for node in NODES}

    def forget_bundles(self) -> None:
        """Forget who wrote so far, which is judged already; who was primary stays."""
        count = len(self.heard)
        self.heard[:count] = [
            one for one in self.heard[:count] if isinstance(one, Restarted) or one.word.said is not Said.COMMITTED
        ]

    def renew_tokens(self) -> None:
        """Tokens last an hour."""
        for name in self.replicas:
            self.api.new_token(self.folder / name)


class _Ear:
    """Hears what switches say to replicas. Called by the thread of the links only."""

    def __init__(self, heard: list[Heard | Restarted]) -> None:
        self._heard = heard
        self._readers: dict[int, SwitchReader] = {}

    def __call__(self, link: str, session: int, data: bytes) -> None:
        kind, _, ends = link.partition(" ")
        if kind != "openflow":
            return
        replica, _, switch = ends.partition("/")
        for word in self._readers.setdefault(session, SwitchReader()).feed(data):
            self._heard.append(Heard(time.monotonic(), switch, replica, session, word))


@contextlib.contextmanager
def stage(pods: int, keep_logs: Path | None = None) -> Iterator[Stage]:
    """A stage that is whole; it is gone when the block ends. All logs are copied to `keep_logs`."""
    require_lab_support("userspace")
    world = World(pods)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hgc-", dir="/tmp")))
        (folder / "api").mkdir()
        api = stack.enter_context(ApiServer(folder / "api"))
        lab = Lab(check_topology(world.topology(), "chaos", "c"), folder / "labs", cluster=api.cluster(folder))
        heard: list[Heard | Restarted] = []
        links = stack.enter_context(Links(_Ear(heard)))
        stack.callback(lab.down)
        lab.up("userspace", controller=False)
        lab.objects.put(standing_policies())
        replicas = {name: _replica(name, folder, api, lab, links) for name in REPLICAS}
        starter = stack.enter_context(ThreadPoolExecutor(1, "starter"))
        clocks = {name: WallClock(folder / name) for name in REPLICAS} if can_build() else {}
        for name, clock in clocks.items():
            replicas[name].environment = clock.environment
        made = Stage(world, folder, api, lab, links, replicas, starter, clocks, heard=heard)
        stack.callback(_end, made, keep_logs)
        for name in replicas:
            made.start(name)
        made.until_whole()
        yield made


def _replica(name: str, folder: Path, api: ApiServer, lab: Lab, links: Links) -> Replica:
    own = folder / name
    own.mkdir()
    kubeconfig = api.credentials(own, links.to_port(f"api {name}", api.port))
    ovsdbs = [
        links.to_socket(f"ovsdb {name}/{node.name}", own / node.name, node.home / "db.sock")
        for node in lab.nodes.values()
    ]
    found = Replica(name, own, kubeconfig, ovsdbs)
    for node in lab.nodes.values():
        link = f"openflow {name}/{node.name}"
        links.to_port(link, found.openflow_port, node.netns, found.openflow_port)
    return found


def _end(made: Stage, keep_logs: Path | None) -> None:
    for one in made.replicas.values():
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.end(signal.SIGKILL)
    if keep_logs is None:
        return
    keep_logs.mkdir(parents=True, exist_ok=True)
    logs_of = {one.log.name: one.log for one in made.replicas.values()}
    logs_of |= {f"{node.name}-{log.name}": log for node in made.lab.nodes.values() for log in node.home.glob("*.log")}
    for name, log in logs_of.items():
        (keep_logs / name).write_bytes(log.read_bytes())


def shifted(heard: list[Heard | Restarted], since: float) -> list[Heard | Restarted]:
    """What was heard, in seconds since a time."""
    return [dataclasses.replace(one, at=one.at - since) for one in heard]
