"""Pods that manifests foretell: those of workloads that have none yet, and addresses for pods without one.

Policy is decided by addresses, so a pod needs one to be reached. Manifests of a repository have none. Made-up addresses
lie in the cluster's range of pods, because rules for address blocks mostly treat that range as a whole ("everywhere but
10.0.0.0/8").
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from flows.cluster.model import Key, Pod, Workload
from flows.cluster.net import ADDRESS_BITS, Net

POD_RANGES = (Net(4, 0x0AF40000, 14), Net(6, 0xFD48_4700_0001 << 80, 64))  # 10.244.0.0/14, fd48:4700:1::/64
POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"  # which the StatefulSet's controller sets


class Foretold(NamedTuple):
    """The pods with an address each. `made` counts the pods that workloads will make, `addressed` the addresses that
    were made up, `without` the pods for which the ranges had no address left."""

    pods: dict[Key, Pod]
    made: int
    addressed: int
    without: int


def foretell(pods: Mapping[Key, Pod], workloads: Iterable[Workload], ranges: Collection[Net]) -> Foretold:
    """Add the pods of workloads without pods, then give every pod on the pods' network that has no address one of each
    family in `ranges`."""
    found = dict(pods)
    made = 0
    for pod in _made(pods.values(), list(workloads)):
        if pod.key not in found:
            found[pod.key] = pod
            made += 1
    addressless = sorted(key for key, pod in found.items() if pod.networked and not pod.addresses)
    taken = {address for pod in found.values() for address in pod.addresses} if addressless else set()
    sources = [_free(one, taken) for one in ranges]
    addressed = without = 0
    for key in addressless:
        new = tuple(address for one in sources if (address := next(one, None)) is not None)
        addressed += len(new)
        without += not new
        found[key] = found[key]._replace(addresses=new)
    return Foretold(found, made, addressed, without)


def _made(pods: Iterable[Pod], workloads: list[Workload]) -> Iterator[Pod]:
    """The pods of the workloads that have none. One pod stands for a workload, two where it has several: enough to see
    what its pods may say to each other."""
    present = {(pod.key.namespace, pod.workload) for pod in pods if pod.workload} if workloads else set()
    known = {(one.key.namespace, f"{one.kind}/{one.key.name}") for one in workloads}
    for one in workloads:
        namespace, workload = one.key.namespace, f"{one.kind}/{one.key.name}"
        if (namespace, workload) in present or (namespace, one.owner) in known | present:
            continue
        for number in range(2 if one.several else 1):
            key = Key(namespace, f"{one.key.name}-{number}")
            labels = one.template.labels
            if one.kind == "StatefulSet":
                labels = {**labels, POD_NAME_LABEL: key.name}
            yield one.template._replace(key=key, labels=labels, workload=workload)


def _free(net: Net, taken: set[Net]) -> Iterator[Net]:
    """The addresses of a range that nobody has, without its first and last."""
    width = ADDRESS_BITS[net.version]
    for value in range(net.value + 1, net.value + (1 << (width - net.prefix)) - 1):
        address = Net(net.version, value, width)
        if address not in taken:
            yield address
