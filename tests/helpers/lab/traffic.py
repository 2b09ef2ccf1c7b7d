"""Waiting for traffic to show something, and what a controller says of itself in numbers."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterable

from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.lab.streams import SIDES, LongLived
from tests.helpers.ovs.flow_dumps import without_cache_mark
from tests.helpers.waiting import until
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe
from topology.probe.traffic import Traffic

Record = Callable[[str, object], None]


def sends(traffic: Traffic, messages: int) -> None:
    """Wait until every flow has sent so many messages more."""
    before = traffic.counts()
    until(lambda: all(sent >= before[probe][0] + messages for probe, (sent, _) in traffic.counts().items()))


def keeps_flowing(traffic: Traffic, messages: int = 10) -> None:
    """Wait until every flow has had so many answers more."""
    before = traffic.counts()
    until(lambda: all(answered >= before[probe][1] + messages for probe, (_, answered) in traffic.counts().items()))


def every_kind(lab: Lab, clients: Iterable[str], server: str) -> list[LongLived]:
    """Long-lived connections of every kind: the client sends, the server, both, or neither. Ports from 6000 on."""
    ways = [(client, family, kind) for client in clients for family in (4, 6) for kind in (*SIDES, "both", "idle")]
    speaking = {"both": SIDES, "idle": ()} | {side: (side,) for side in SIDES}
    return [
        LongLived(lab, LabProbe(client, server, "TCP", 6000 + place, family), speaking[kind])
        for place, (client, family, kind) in enumerate(ways)
    ]


def go_on(streams: list[LongLived], whole: bool = True) -> None:
    """Wait until all that speaks is heard again; `whole`: the server of an idle one says something too."""
    if whole:
        for one in streams:
            if not one.speakers:
                one.say("server")
    before = [(one, side, one.said[side]) for one in streams for side in SIDES]
    until(lambda: all(one.heard[side] >= said for one, side, said in before))


def total(lab: Lab, name: str) -> float:
    """The sum of a metric over all its labels; 0 where the controller has no such series yet."""
    with urllib.request.urlopen(lab.product.server + "/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def flows(lab: Lab, node: str) -> list[str]:
    """The flows on a node's switch without their counters and the cache mark, ports by name."""
    return without_cache_mark(lab.nodes[node].ofctl("dump-flows", "--no-stats", "--names").splitlines()[1:])
