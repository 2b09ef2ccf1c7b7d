"""Reads a cluster once, without a running controller: manifests (folders, files, standard input) or an API server.

What commands offer beside a running controller. Manifests are parsed as the source `folder` parses them, and pods that
they foretell are added (`flows.cluster.foretold`). What cannot be parsed allows nothing and is a problem, as there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from controller.base.errors import StartError
from controller.base.printable import printable
from controller.reconcile.problem import Problem
from controller.sources.folder.files import MAX_MANIFEST_BYTES, SUFFIXES
from controller.sources.folder.manifest import read_manifest
from controller.sources.unit import SourceUnit
from flows.cluster.foretold import POD_RANGES, foretell
from flows.cluster.model import CLUSTER_NETWORK_POLICY, Cluster, Key, Workload
from flows.cluster.net import Net
from flows.cluster.original_api import OriginalPolicy, all_policies
from flows.parse.objects import PARSERS_WITH_WORKLOADS, ParsedObject

STANDARD_INPUT = "-"
MAX_FILES = 10_000  # of one folder, in its subfolders, too
OBJECTS_PER_PAGE = 500  # in one answer of the API server
_FIELDS = {
    "Namespace": "namespaces",
    "Pod": "pods",
    "Node": "nodes",
    "NetworkPolicy": "policies",
    "Service": "services",
    "EndpointSlice": "endpoint_slices",
    "ServiceCIDR": "service_cidrs",
    CLUSTER_NETWORK_POLICY: "cluster_policies",
}
# Kinds that are not read and bear on who reaches whom: a reader must know that nothing is said about them.
_BEARING_KINDS = frozenset(
    {
        "ClusterUserDefinedNetwork",
        "DeploymentConfig",
        "Gateway",
        "Ingress",
        "NetworkAttachmentDefinition",
        "Rollout",
        "Route",
        "UserDefinedNetwork",
        "VirtualMachine",
        "VirtualMachineInstance",
    }
)
_BEARING_ENDINGS = ("NetworkPolicy", "AuthorizationPolicy")  # of other APIs


class OfflineError(StartError):
    """The input cannot be read at all. The message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class ManifestText:
    """One manifest as it was read. `where` is its path, or `standard input`, as messages show it."""

    where: str
    data: bytes
    is_json: bool = False


@dataclass(frozen=True, slots=True)
class OfflineCluster:
    """A cluster that was read once.

    `problems` are those of its objects, `notes` what a reader must know beside them: what was made up, or not read.
    """

    cluster: Cluster
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def read_manifest_texts(paths: Iterable[str]) -> list[ManifestText]:
    """The manifests at these paths, in their order: files, folders with all their subfolders, `-` for standard input.

    Folders are read as `kubectl apply -R -f` does: names that end in .yaml, .yml or .json, in sorted order. Raises
    OfflineError for what cannot be read.
    """
    found: list[ManifestText] = []
    for path in paths:
        if path == STANDARD_INPUT:
            found.append(ManifestText("standard input", _bounded(sys.stdin.buffer, "standard input")))
        elif os.path.isdir(path):
            found.extend(_read_file(one) for one in _files(path))
        else:
            found.append(_read_file(path))
    return found


def parse_manifest_texts(texts: Iterable[ManifestText]) -> list[SourceUnit]:
    """The objects and problems of each manifest, workloads included."""
    return [read_manifest(one.data, one.where, one.is_json, PARSERS_WITH_WORKLOADS).unit for one in texts]


def offline_manifests(paths: Sequence[str], pod_ranges: Collection[Net] = ()) -> OfflineCluster:
    """The cluster of manifests. Pods without an address get one of `pod_ranges`, by default of POD_RANGES.

    Raises OfflineError.
    """
    return assemble(parse_manifest_texts(read_manifest_texts(paths)), pod_ranges)


def offline_api(kubeconfig: str) -> OfflineCluster:
    """The cluster of an API server, read once. Raises OfflineError."""
    from controller.sources.kubernetes.client import Api
    from controller.sources.kubernetes.resources import RESOURCES, SERVICE_RESOURCES
    from controller.sources.kubernetes.stream import FORBIDDEN, NOT_FOUND, ApiError
    from controller.sources.source import SourceError

    api = Api(kubeconfig)
    units: list[SourceUnit] = []
    try:
        api.load()
        resources = [*RESOURCES, *SERVICE_RESOURCES]
        for resource in resources:
            try:
                units.extend(_listed(api, resource))
            except ApiError as error:
                if error.status == FORBIDDEN and resource in SERVICE_RESOURCES:
                    reason = f"cannot be listed, so no Service is known: {error.reason}"
                    units.append(SourceUnit((), (Problem(api.server + resource.path, "", "", reason),)))
                elif error.status == NOT_FOUND and resource.older is not None:
                    resources.append(resource.older)
                elif error.status != NOT_FOUND or not resource.optional:
                    raise OfflineError(f"{api.server} does not list {resource.plural}: {error.reason}") from None
    except SourceError as error:
        raise OfflineError(str(error)) from None
    return assemble(units, None)


def assemble(units: Iterable[SourceUnit], pod_ranges: Collection[Net] | None) -> OfflineCluster:
    """One cluster of all units; of an object that several have, the last one wins.

    Pods that workloads foretell are added, and addresses made up out of `pod_ranges` (empty: POD_RANGES, as far as the
    cluster has the family), unless it is None.
    """
    units = list(units)
    objects: dict[str, dict[Any, Any]] = {}
    problems: list[Problem] = []
    for unit in units:
        problems.extend(unit.problems)
        for one in unit.objects:
            objects.setdefault(_section(one), {})[one.kind, one.name] = one.value
    named = {section: {name: value for (_, name), value in found.items()} for section, found in objects.items()}
    plain = {field: named.get(kind, {}) for kind, field in _FIELDS.items()}
    plain["policies"] = all_policies(
        plain["policies"], objects.get("original", {}).values(), plain["namespaces"].values()
    )  # type: ignore[assignment]  # a mapping that is only read
    cluster = Cluster(**plain)
    if pod_ranges is None:
        return OfflineCluster(cluster, tuple(problems))
    workloads = objects.get("workload", {}).values()
    found = _foretold(cluster, workloads, pod_ranges or _usual_ranges(cluster), tuple(problems))
    return replace(found, notes=(*found.notes, *_not_read(units)))


def _not_read(units: Iterable[SourceUnit]) -> Iterator[str]:
    """A note on the objects of kinds that bear on who reaches whom and are not read."""
    counts: dict[str, int] = {}
    for unit in units:
        for name, count in unit.ignored.items():
            kind = name.partition(" ")[0]
            if kind in _BEARING_KINDS or kind.endswith(_BEARING_ENDINGS):
                counts[name] = counts.get(name, 0) + count
    if counts:
        yield "not read, so nothing is said about them: " + ", ".join(
            f"{counts[name]} {name}" for name in sorted(counts)
        )


def _section(one: ParsedObject) -> str:
    if isinstance(one.value, Workload):
        return "workload"
    return "original" if isinstance(one.value, OriginalPolicy) else one.kind


def _foretold(
    cluster: Cluster, workloads: Iterable[Workload], ranges: Collection[Net], problems: tuple[Problem, ...]
) -> OfflineCluster:
    found = foretell(cluster.pods, workloads, ranges)
    notes = []
    if found.made:
        notes.append(f"{found.made} pods stand for workloads that have no pods in the manifests")
    if found.addressed:
        names = " and ".join(map(str, ranges))
        notes.append(f"{found.addressed} pod addresses were made up, out of {names} (see --pod-cidr)")
    if found.without:
        notes.append(f"{found.without} pods have no address, for the ranges are full: nothing reaches them")
    pods: dict[Key, Any] = found.pods
    return OfflineCluster(replace(cluster, pods=pods), problems, tuple(notes))


def _usual_ranges(cluster: Cluster) -> list[Net]:
    """POD_RANGES of the families that the cluster's pods have; without any, IPv4, and IPv6 if a rule names such a
    block."""
    families = {address.version for pod in cluster.pods.values() for address in pod.addresses}
    if not families:
        rules = (rule for one in cluster.policies.values() for rule in (*one.ingress, *one.egress) if rule)
        blocks = (peer.ip_block for rule in rules for peer in rule.peers if peer.ip_block)
        families = {4} | {block.cidr.version for block in blocks}
    return [one for one in POD_RANGES if one.version in families]


# -- files -------------------------------------------------------------------------------------------------------------


def _files(folder: str) -> list[str]:
    found: list[str] = []
    for path in _walk(folder):
        found.append(path)
        if len(found) > MAX_FILES:
            raise OfflineError(f"{printable(folder)} has more than {MAX_FILES} manifests: name a smaller folder")
    if not found:
        raise OfflineError(f"{printable(folder)} has no files that end in {', '.join(SUFFIXES)}")
    return found


def _walk(folder: str) -> Iterator[str]:
    """The manifests below a folder, sorted. Symbolic links to folders are not followed, for they may form a ring."""
    for path, folders, names in os.walk(folder, onerror=_cannot_list):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        yield from (f"{path}/{name}" for name in sorted(names) if name.endswith(SUFFIXES) and not name.startswith("."))


def _cannot_list(error: OSError) -> None:
    raise OfflineError(f"{printable(str(error.filename))} cannot be read: {error.strerror}")


def _read_file(path: str) -> ManifestText:
    where = printable(path)
    try:
        with Path(path).open("rb") as stream:
            return ManifestText(where, _bounded(stream, where), path.endswith(".json"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OfflineError(f"{where} cannot be read: {reason}") from None


def _bounded(stream: Any, where: str) -> bytes:
    data: bytes = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise OfflineError(f"{where} has more than {MAX_MANIFEST_BYTES >> 20} MiB; split it")
    return data


# -- API server --------------------------------------------------------------------------------------------------------


def _listed(api: Any, resource: Any) -> Iterator[SourceUnit]:
    """All objects of one kind, page by page. Raises ApiError."""
    from controller.sources.kubernetes.resources import list_page, read_items

    query = {"limit": str(OBJECTS_PER_PAGE)}
    while True:
        page = list_page(api.get(resource.path, query))
        for change in read_items(resource, api.server, page, {}):
            if change.unit is not None:
                yield change.unit
        if not page.token:
            return
        query["continue"] = page.token
