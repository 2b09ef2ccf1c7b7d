"""The public suites' scenarios as data: steps of plain Kubernetes objects, and who may then reach whom.

The tables are the YAML files in tests/truth; the top of netpol.yaml explains their form. CASES is all
of them; `case.steps(world)` gives what to apply, delete and check in a world with real addresses. Running them, on
paper or on packets, is others' work.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.paths import ROOT
from tests.helpers.truth.layout import NAMESPACES, OUTSIDE, PODS, Manifest, TruthLayout, namespace_manifest

TABLES = ROOT / "tests/truth"
POLICY_API = "networking.k8s.io/v1"
TIERS_API = "policy.networking.k8s.io/v1beta1"
POLICY_KINDS = ("NetworkPolicy", "ClusterNetworkPolicy")
FAMILIES = (4, 6)


class CaseError(Exception):
    """A table that cannot be read: the message names the case."""


@dataclass(frozen=True)
class Check:
    """Who reaches whom over one protocol and port (None for ICMP), on each of `families`.

    `lines` are `allow|deny SOURCES > DESTINATIONS`; all is allowed that no line speaks of, and the last one that
    speaks of a pair decides.
    """

    protocol: str
    port: int | None
    families: tuple[int, ...]
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return self.protocol if self.port is None else f"{self.protocol} {self.port}"

    def matrix(self, world: TruthLayout) -> dict[tuple[str, str], bool]:
        """(source, destination) to allowed: all 81 pairs of pods, and whatever else the lines name.

        A pod always reaches itself. Ends are pods `x/a`, nodes `@x/a` (the node that x/a is on) and `outside`.
        """
        found = dict.fromkeys(itertools.product(PODS, PODS), True)
        for line in self.lines:
            verb, sources, arrow, destinations = line.split()
            if verb not in ("allow", "deny") or arrow != ">":
                raise CaseError(f"{line!r} is not `allow|deny SOURCES > DESTINATIONS`")
            for pair in itertools.product(_ends(sources), _ends(destinations)):
                if world.outside or OUTSIDE not in pair:
                    found[pair] = verb == "allow"
        found.update(dict.fromkeys(((pod, pod) for pod in PODS), True))
        return found


@dataclass(frozen=True)
class Step:
    """What to do, in this order: delete, apply; and what holds afterwards. `delete` has just names and kinds."""

    why: str
    apply: tuple[Manifest, ...]
    delete: tuple[Manifest, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Case:
    """One scenario. It starts from `world.manifests()` without any policy and ends so after `cleanup`."""

    suite: str
    name: str
    raw: tuple[Mapping[str, Any], ...]

    def __str__(self) -> str:
        return f"{self.suite}-{self.name}"

    def steps(self, world: TruthLayout) -> Iterator[Step]:
        """The steps in `world`. Raises CaseError where the table is wrong."""
        for raw in self.raw:
            unknown = set(raw) - {"why", "policies", "tiers", "labels", "delete", "expect"}
            if unknown:
                raise CaseError(f"{self}: what is {', '.join(sorted(unknown))}?")
            yield Step(
                why=raw.get("why", ""),
                apply=tuple(world.fill(one) for one in _applied(raw, world)),
                delete=tuple(_policy(name) for name in raw.get("delete", ())),
                checks=tuple(_checks(raw.get("expect", ()))),
            )

    def cleanup(self, world: TruthLayout) -> Step:
        """The step back to the world before the case."""
        policies: set[str] = set()
        changed: set[str] = set()
        for step in self.steps(world):
            policies -= {_path(one) for one in step.delete}
            policies |= {_path(one) for one in step.apply if one["kind"] in POLICY_KINDS}
            changed |= {_path(one) for one in step.apply if one["kind"] not in POLICY_KINDS}
        return Step(
            why="back to the beginning",
            apply=tuple(one for one in world.manifests() if _path(one) in changed),
            delete=tuple(_policy(path.rpartition(" ")[2]) for path in sorted(policies)),
            checks=(),
        )


def _path(manifest: Manifest) -> str:
    meta = manifest["metadata"]
    return f"{manifest['kind']} {meta['namespace']}/{meta['name']}" if "namespace" in meta else meta["name"]


def _ends(text: str) -> Iterator[str]:
    for word in text.split(","):
        if word == OUTSIDE or word in PODS or word[1:] in PODS:
            yield word
            continue
        namespace, _, name = word.partition("/")
        found = [pod for pod in PODS if namespace in ("*", pod[0]) and (name or "*") in ("*", pod[-1])]
        if not found:
            raise CaseError(f"{word!r} is nobody")
        yield from found


def _policy(name: str, spec: Mapping[str, Any] | None = None) -> Manifest:
    if "/" not in name:
        of_cluster: Manifest = {"apiVersion": TIERS_API, "kind": "ClusterNetworkPolicy", "metadata": {"name": name}}
        return of_cluster if spec is None else {**of_cluster, "spec": dict(spec)}
    namespace, name = name.split("/")
    manifest: Manifest = {
        "apiVersion": POLICY_API,
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name},
    }
    return manifest if spec is None else {**manifest, "spec": {"podSelector": {}, **spec}}


def _applied(raw: Mapping[str, Any], world: TruthLayout) -> Iterator[Manifest]:
    for name, labels in raw.get("labels", {}).items():
        yield namespace_manifest(name, labels) if name in NAMESPACES else world.pod_manifest(name, labels)
    for section in ("policies", "tiers"):
        for name, spec in raw.get(section, {}).items():
            yield _policy(name, spec)


def _checks(raw: Any) -> Iterator[Check]:
    for expected in raw:
        families = tuple(expected.get("families", FAMILIES))
        for ports, lines in expected.items():
            if ports == "families":
                continue
            for port in ports.split(", "):
                protocol, _, number = port.partition(" ")
                words = tuple(line for line in (lines or "").split("; ") if line)
                yield Check(protocol, int(number) if number else None, families, words)


def load(path: Path) -> tuple[Case, ...]:
    """The cases of one YAML file, whose name is their suite's."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(Case(path.stem, name, tuple(steps)) for name, steps in document.items())


CASES = tuple(case for path in sorted(TABLES.glob("*.yaml")) for case in load(path))
