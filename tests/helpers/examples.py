"""The examples of docs/examples: their manifests as text and as a cluster, and the connections that they speak of.

A folder `NN-name` has `manifests/` with Kubernetes objects and `expect.yaml` with a list of
`{from, to, port, allowed}`: an end is `namespace/pod` or an address, a port is `80/TCP`. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from flows.cluster.model import Cluster, Key, Namespace, Node, Pod, Policy
from flows.cluster.original_api import OriginalPolicy, all_policies
from flows.parse.objects import parse_object
from tests.helpers.paths import ROOT

EXAMPLES = tuple(sorted((ROOT / "docs" / "examples").glob("[0-9][0-9]-*")))
EXAMPLES_LAB = ROOT / "docs" / "examples" / "lab.yaml"
_FIELDS = {"from", "to", "port", "allowed"}


@dataclass(frozen=True, slots=True)
class Connection:
    """A line of expect.yaml. `protocol` is TCP, UDP or SCTP."""

    source: str
    destination: str
    protocol: str
    port: int
    allowed: bool

    def __str__(self) -> str:
        return f"{self.source} > {self.destination} {self.port}/{self.protocol}"


def connections(example: Path) -> list[Connection]:
    """The lines of an example's expect.yaml. Raises ValueError where one is not of the agreed form."""
    found = []
    for line in yaml.safe_load((example / "expect.yaml").read_text(encoding="utf-8")):
        if set(line) != _FIELDS or not isinstance(line["allowed"], bool):
            raise ValueError(f"{example.name}: {line} needs from, to, port and allowed (true or false)")
        number, _, protocol = line["port"].partition("/")
        found.append(Connection(line["from"], line["to"], protocol, int(number), line["allowed"]))
    return found


def objects(example: Path) -> Iterator[dict[str, Any]]:
    """Every object of an example's manifests, in the order of the files."""
    for path in sorted((example / "manifests").iterdir()):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document is not None:
                yield document


def cluster_of(example: Path) -> Cluster:
    """The cluster of an example's manifests. Raises ValueError unless every object parses whole."""
    namespaces: dict[str, Namespace] = {}
    pods: dict[Key, Pod] = {}
    nodes: dict[str, Node] = {}
    policies: dict[Key, Policy] = {}
    original: list[OriginalPolicy] = []
    for manifest in objects(example):
        parsed = parse_object(manifest)
        if parsed is None or parsed.errors:
            raise ValueError(f"{example.name}: {manifest['kind']}: {parsed and parsed.errors}")
        match parsed.value:
            case Namespace() as namespace:
                namespaces[namespace.name] = namespace
            case Pod() as pod:
                pods[pod.key] = pod
            case Node() as node:
                nodes[node.name] = node
            case Policy() as policy:
                policies[policy.key] = policy
            case OriginalPolicy() as policy:
                original.append(policy)
    return Cluster(
        MappingProxyType(namespaces),
        MappingProxyType(pods),
        MappingProxyType(nodes),
        all_policies(policies, original, namespaces.values()),
    )
