"""Schedules of faults and changes as values: made from a seed, written to a file, read back. Nothing is broken here.

A step says when it begins (seconds from the start of the traffic), what happens, to whom, and for how long. Two steps
of one schedule never concern the same thing at the same time, so any part of a schedule is a schedule, too: what
shrinking needs.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.world import FLAPPING, NODES, REPLICAS, World

LEASE_SECONDS = 4.0  # what tests.helpers.controller.replicas.Replica runs with
RENEW_SECONDS = 0.5
FIRST_AT = 2.0  # seconds of undisturbed traffic before the first step
QUIET_SECONDS = 1.0  # between two faults of the same thing


class Kind(enum.Enum):
    """What a step does. Its target is a replica (`r0`), a node, a link (`r0/n0`), a policy, a pod, a pod and a node
    (`x/p0/n2`), or nothing.
    """

    KILL = "kill"  # kill -9 of a replica, which comes back after `seconds`
    END = "end"  # SIGTERM, as in a rolling update; it comes back after `seconds`
    STOP = "stop"  # SIGSTOP, and SIGCONT after `seconds`
    CUT_API = "cut-api"  # nothing passes between a replica and the API server
    CUT_SWITCH = "cut-switch"  # nothing passes between a replica and a switch, OpenFlow and OVSDB
    CUT_OPENFLOW = "cut-openflow"  # the OpenFlow session alone
    CUT_OVSDB = "cut-ovsdb"  # the OVSDB alone
    API = "api"  # the API server is killed, and started after `seconds`
    ETCD = "etcd"  # the same of etcd
    SWITCH = "switch"  # kill -9 of an ovs-vswitchd, started after `seconds`
    DATABASE = "database"  # the same of an ovsdb-server
    SLOW_API = "slow-api"  # the API server works for a part of the time only (see `faults`)
    SLOW_ETCD = "slow-etcd"  # the same of etcd
    SLOW_DATABASE = "slow-database"  # the same of an ovsdb-server
    CLOCK_AHEAD = "clock-ahead"  # a replica's clock jumps an hour ahead, and back after `seconds`
    CLOCK_BEHIND = "clock-behind"  # the same the other way
    POLICY = "policy"  # a policy is created, or deleted if it is there
    RELABEL = "relabel"  # a pod's role changes, and back the next time
    MOVE = "move"  # a pod (`x/p0/n2`) goes, and comes to that node with its address and the other role
    READDRESS = "readdress"  # the same with its role and another address


MOVES = frozenset({Kind.MOVE, Kind.READDRESS})
CHANGES = frozenset({Kind.POLICY, Kind.RELABEL}) | MOVES
PROCESS = frozenset({Kind.KILL, Kind.END, Kind.STOP})
CLOCKS = frozenset({Kind.CLOCK_AHEAD, Kind.CLOCK_BEHIND})
CONTROL_PLANE = frozenset({Kind.API, Kind.ETCD, Kind.SLOW_API, Kind.SLOW_ETCD})
SLOW = frozenset({Kind.SLOW_API, Kind.SLOW_ETCD, Kind.SLOW_DATABASE})
CUTS = frozenset({Kind.CUT_API, Kind.CUT_SWITCH, Kind.CUT_OPENFLOW, Kind.CUT_OVSDB})
# How often each comes up, and for how long it lasts at least and at most (seconds).
_FAULTS: dict[Kind, tuple[int, float, float]] = {
    Kind.KILL: (4, 0.5, 8.0),
    Kind.END: (2, 0.5, 4.0),
    Kind.STOP: (4, 2 * LEASE_SECONDS, 2 * LEASE_SECONDS),
    Kind.CUT_API: (3, 1.0, 2.5 * LEASE_SECONDS),
    Kind.CUT_SWITCH: (3, 1.0, 2.5 * LEASE_SECONDS),
    Kind.CUT_OPENFLOW: (2, 1.0, 2.5 * LEASE_SECONDS),
    Kind.CUT_OVSDB: (1, 1.0, 2.5 * LEASE_SECONDS),
    Kind.API: (1, 0.5, 1.5 * LEASE_SECONDS),
    Kind.ETCD: (1, 0.5, 1.5 * LEASE_SECONDS),
    Kind.SWITCH: (2, 0.0, 2.0),
    Kind.DATABASE: (2, 0.0, 2.0),
    Kind.SLOW_API: (1, 2.0, 10.0),
    Kind.SLOW_ETCD: (2, 2.0, 10.0),
    Kind.SLOW_DATABASE: (2, 2.0, 10.0),
    Kind.CLOCK_AHEAD: (1, 2.0, 2.5 * LEASE_SECONDS),
    Kind.CLOCK_BEHIND: (1, 2.0, 2.5 * LEASE_SECONDS),
}
# How often each kind of change comes up.
_CHANGES = {Kind.POLICY: 12, Kind.RELABEL: 5, Kind.MOVE: 1, Kind.READDRESS: 2}


@dataclass(frozen=True, order=True)
class Step:
    """One step; `kind` by its word, so that steps sort and print alike everywhere."""

    at: float
    kind: str
    target: str = ""
    seconds: float = 0.0

    @property
    def what(self) -> Kind:
        """The kind."""
        return Kind(self.kind)

    @property
    def is_change(self) -> bool:
        """Whether it changes what is wanted, and breaks nothing."""
        return self.what in CHANGES

    def __str__(self) -> str:
        lasting = f" for {self.seconds:g} s" if self.seconds else ""
        return f"{self.at:6.2f} s  {self.kind} {self.target}{lasting}"


@dataclass(frozen=True)
class Schedule:
    """Everything that a run depends on: `seconds` of traffic in a world of `pods` pods, and the steps in order."""

    seed: int
    seconds: float
    pods: int
    steps: tuple[Step, ...]

    def only(self, steps: Sequence[Step]) -> Schedule:
        """The same with these steps."""
        return dataclasses.replace(self, steps=tuple(sorted(steps)))

    @property
    def faults(self) -> tuple[Step, ...]:
        """The steps that break something."""
        return tuple(step for step in self.steps if not step.is_change)

    def text(self) -> str:
        """As a file's text."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    def __str__(self) -> str:
        return "\n".join([f"seed {self.seed}, {self.seconds:g} s, {self.pods} pods", *map(str, self.steps)])


def read_schedule(text: str) -> Schedule:
    """The schedule of a file. Raises ValueError where it is none."""
    try:
        found = json.loads(text)
        steps = [
            Step(float(s["at"]), Kind(s["kind"]).value, str(s["target"]), float(s["seconds"])) for s in found["steps"]
        ]
        return Schedule(int(found["seed"]), float(found["seconds"]), int(found["pods"]), tuple(sorted(steps)))
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no schedule: {error!r}") from error


def make_schedule(
    seed: int,
    seconds: float = 30.0,
    pods: int = 60,
    faults: int = 5,
    changes: int = 12,
    victims: Sequence[str] = REPLICAS,
) -> Schedule:
    """The schedule of a seed. `victims` are the replicas that may be killed or stopped."""
    chance = random.Random(seed)
    world = World(pods)
    steps: list[Step] = []
    for _ in range(faults * 10):  # most are taken; one that would overlap with its like is drawn anew
        if len(steps) == faults:
            break
        step = _fault(chance, seconds, victims)
        if not any(_overlap(step, other) for other in steps):
            steps.append(step)
    movable = world.movable
    for _ in range(changes):
        at = round(chance.uniform(FIRST_AT, seconds), 2)
        kind = chance.choices(list(_CHANGES), list(_CHANGES.values()))[0]
        target = chance.choice(sorted(FLAPPING) if kind is Kind.POLICY else movable)
        steps.append(Step(at, kind.value, f"{target}/{chance.choice(NODES)}" if kind in MOVES else target))
    return Schedule(seed, seconds, pods, tuple(sorted(steps)))


def _fault(chance: random.Random, seconds: float, victims: Sequence[str]) -> Step:
    kind = chance.choices(list(_FAULTS), [weight for weight, _, _ in _FAULTS.values()])[0]
    _, least, most = _FAULTS[kind]
    replica, node = chance.choice(victims if kind in PROCESS else REPLICAS), chance.choice(NODES)
    if kind in PROCESS or kind in CLOCKS or kind is Kind.CUT_API:
        target = replica
    elif kind in CUTS:
        target = f"{replica}/{node}"
    else:
        target = "" if kind in CONTROL_PLANE else node
    lasting = round(chance.uniform(least, most), 2)
    return Step(round(chance.uniform(FIRST_AT, max(FIRST_AT, seconds - lasting)), 2), kind.value, target, lasting)


def _overlap(one: Step, other: Step) -> bool:
    apart = one.at > other.at + other.seconds + QUIET_SECONDS or other.at > one.at + one.seconds + QUIET_SECONDS
    return not apart and bool(touched(one) & touched(other))


def touched(step: Step) -> frozenset[tuple[str, str]]:
    """What a fault breaks: two that break the same would mend each other's work."""
    kind, target = step.what, step.target
    if kind in PROCESS:
        return frozenset({("process", target)})
    if kind in CLOCKS:
        return frozenset({("clock", target)})
    if kind in CONTROL_PLANE:
        return frozenset({("control-plane", "")})
    if kind is Kind.CUT_API:
        return frozenset({("link", link) for link in links_of(step)})
    if kind in CUTS:
        return frozenset({("link", link) for link in links_of(step)})
    return frozenset({("node", target)})


def links_of(step: Step) -> tuple[str, ...]:
    """The names of the links that a step cuts (see `stage`)."""
    kind, target = step.what, step.target
    if kind is Kind.CUT_API:
        return (f"api {target}",)
    openflow = (f"openflow {target}",) if kind in (Kind.CUT_SWITCH, Kind.CUT_OPENFLOW) else ()
    ovsdb = (f"ovsdb {target}",) if kind in (Kind.CUT_SWITCH, Kind.CUT_OVSDB) else ()
    return openflow + ovsdb
