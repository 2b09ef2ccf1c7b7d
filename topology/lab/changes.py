"""Plans what manifests change in a running lab, completely before anything is changed.

Does for a lab what `kubectl apply` and `kubectl delete` do for a cluster, with their words (created, configured,
unchanged, deleted). A new pod gets its network, a deleted pod loses it. Fields that cannot be changed in a running pod
or lab are rejected. See `manifests` for how objects are stored.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from topology.errors import LabError, TopologyError
from topology.lab import state
from topology.lab.lab import Lab
from topology.lab.manifests import CLUSTER_SCOPED, Manifest, object_name, verb
from topology.spec.load import validation_problems
from topology.spec.model import LabNamespace, LabPod

Work = Callable[[Lab], object]


@dataclass(frozen=True)
class GivenManifest:
    """An object of a manifest. `place` gives file and line of one of its fields: `policy.yaml:12`."""

    item: Manifest
    place: Callable[[str], str]


@dataclass(frozen=True)
class LabChange:
    """The change of one object: its name, the verb (created, deleted, ...), and the function that does it."""

    name: str
    verb: str
    work: Work

    def __str__(self) -> str:
        return f"{self.name} {self.verb}"


class ManifestError(LabError):
    """Manifests that a lab cannot apply; `problems` has one line for each, with the place."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def carry_out(lab: Lab, steps: Iterable[LabChange]) -> None:
    """Do the planned changes, in order."""
    for step in steps:
        step.work(lab)


# Apply


def to_apply(lab: Lab, given: Sequence[GivenManifest]) -> list[LabChange]:
    """The changes that applying the objects makes, in a feasible order. Raises ManifestError with every problem."""
    plan = _Apply(lab, given)
    for one in given:
        plan.take(one)
    if plan.problems:
        raise ManifestError(plan.problems)
    return plan.steps


class _Apply:
    """The changes and problems found so far."""

    def __init__(self, lab: Lab, given: Sequence[GivenManifest]) -> None:
        self._lab = lab
        self.steps: list[LabChange] = []
        self.problems: list[str] = []
        self._pods = {pod.key: pod for pod in lab.topology.pods}
        self._new: list[LabPod] = []
        self._seen: dict[str, Manifest] = {}
        known = [item for item in lab.manifests.objects() if item["kind"] == "Namespace"]
        coming = [one.item for one in given if one.item["kind"] == "Namespace"]
        self._namespaces = {item["metadata"]["name"]: item for item in (*known, *coming)}

    def take(self, one: GivenManifest) -> None:
        """Plan the change of one object, or add its problem."""
        item = one.item
        namespace = item["metadata"].get("namespace")
        if item["kind"] not in CLUSTER_SCOPED and namespace not in self._namespaces:
            self._add_problem(one, "metadata.namespace", _unknown("namespace", namespace, self._namespaces))
        elif item["kind"] == "Node" and f"node:{item['metadata']['name']}" not in self._lab.endpoints:
            nodes = [node.name for node in self._lab.topology.nodes]
            reason = _unknown("node", item["metadata"]["name"], nodes)
            self._add_problem(one, "metadata.name", f"{reason}; a lab that is up takes no new ones")
        elif item["kind"] == "Pod" and _key(item) not in self._pods:
            self._take_new_pod(one)
        else:
            self._put(one)

    def _put(self, one: GivenManifest) -> None:
        """Plan an object without a network of its own, or one that exists already."""
        before = self._seen.get(object_name(one.item)) or self._lab.manifests.get(one.item)
        after = self._lab.manifests.merged(one.item)
        fixed = _FIXED.get(one.item["kind"], ()) if before is not None else ()
        reasons = {path: reason for path in fixed if (reason := _fixed(path, before or {}, after))}
        for path, reason in reasons.items():
            self._add_problem(one, path, reason)
        if reasons:
            return  # a rejected object must not count as the current one for later objects
        self._seen[object_name(one.item)] = after
        self.steps.append(LabChange(object_name(one.item), verb(before, after), _put(one.item)))

    def _take_new_pod(self, one: GivenManifest) -> None:
        try:
            pod = self._pod(one.item)
            self._lab.grown([*self._new, pod], self._models())
        except _RejectedError as error:
            self._add_problem(one, error.path, str(error))
        except TopologyError as error:
            self._add_problem(one, "", str(error).removeprefix(f"{self._lab.topology.name}: "))
        else:
            self._new.append(pod)
            self._pods[pod.key] = pod
            models = self._models()
            self._seen[object_name(one.item)] = one.item
            self.steps.append(LabChange(object_name(one.item), "created", _make(pod, models, one.item)))

    def _pod(self, item: Manifest) -> LabPod:
        """The pod of a manifest. Raises _RejectedError with a field that a lab does not support."""
        spec = item.get("spec") or {}
        if spec.get("hostNetwork"):
            raise _RejectedError("spec.hostNetwork", "a lab does not support pods on their node's network")
        nodes = [node.name for node in self._lab.topology.nodes]
        node = spec.get("nodeName") or self._emptiest(nodes)
        if node not in nodes:
            raise _RejectedError("spec.nodeName", _unknown("node", node, nodes))
        addresses = [entry["ip"] for entry in (item.get("status") or {}).get("podIPs") or []]
        ports = [
            {"port": port.get("containerPort"), "protocol": port.get("protocol") or "TCP", "name": port.get("name")}
            for container in spec.get("containers") or []
            for port in container.get("ports") or []
        ]
        metadata = item["metadata"]
        try:
            return LabPod.model_validate(
                {
                    "namespace": metadata["namespace"],
                    "name": metadata["name"],
                    "node": node,
                    "labels": metadata.get("labels") or {},
                    "ports": ports,
                    "addresses": addresses,
                }
            )
        except ValidationError as error:
            raise _RejectedError("", "; ".join(validation_problems(error))) from error

    def _emptiest(self, nodes: Sequence[str]) -> str:
        """The node with the fewest pods, for a pod without a node."""
        there = [pod.node for pod in self._pods.values()]
        return min(nodes, key=there.count)

    def _models(self) -> list[LabNamespace]:
        return [
            LabNamespace(name=name, labels=item["metadata"].get("labels") or {})
            for name, item in self._namespaces.items()
        ]

    def _add_problem(self, one: GivenManifest, path: str, reason: str) -> None:
        self.problems.append(f"{one.place(path)}: {object_name(one.item)}: {f'{path}: ' if path else ''}{reason}")


class _RejectedError(Exception):
    """A manifest has a value that a lab does not support; `path` is the field."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


# Fields that a manifest cannot change in an existing object. Kubernetes rejects most of these for a running pod, too.
_FIXED: Mapping[str, tuple[str, ...]] = {
    "Pod": ("metadata.uid", "spec.nodeName", "spec.hostNetwork", "spec.containers", "status.podIPs"),
    "Node": ("status.addresses",),
}


def _fixed(path: str, before: Manifest, after: Manifest) -> str:
    """Why the field cannot change as it would, "" if it does not change."""
    before_value, after_value = (_compared(path, _at(item, path)) for item in (before, after))
    if before_value == after_value or after_value is None:
        return ""
    if path.startswith("spec.containers"):
        return "the ports of a running pod cannot be changed; delete the pod and apply it again"
    again = "" if before["kind"] == "Node" else "; delete the pod and apply it again"
    return f"cannot be changed from {_shown(before_value)} to {_shown(after_value)} while it runs{again}"


def _at(item: object, path: str) -> Any:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return item


def _compared(path: str, value: Any) -> Any:
    """The comparable form of a field's value; of containers only the ports, which is what a policy can select."""
    if path == "spec.hostNetwork":
        return bool(value)
    if path != "spec.containers" or not isinstance(value, list):
        return value
    ports = [
        port for one in value if isinstance(one, dict) for port in one.get("ports") or [] if isinstance(port, dict)
    ]
    described = [(port.get("containerPort"), port.get("protocol") or "TCP", port.get("name") or "") for port in ports]
    return sorted(described, key=str) or None


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(
            str(one.get("ip") or one.get("address") or one) if isinstance(one, dict) else str(one) for one in value
        )
    return "nothing" if value is None else str(value)


def _unknown(kind: str, name: object, there: Iterable[str]) -> str:
    """The text for an unknown name, with the most similar one or all names."""
    names = list(there)
    near = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"
    return f"{kind} {name} not found; {hint}"


def _key(item: Manifest) -> str:
    return f"{item['metadata'].get('namespace')}/{item['metadata']['name']}"


def _put(item: Manifest) -> Work:
    return lambda lab: lab.manifests.put([item])


def _make(pod: LabPod, namespaces: Sequence[LabNamespace], item: Manifest) -> Work:
    def work(lab: Lab) -> None:
        with state.lab_locked(lab.base, lab.topology.name):
            lab.add_pods([pod], namespaces)
            lab.manifests.put([item])  # with fields that only the manifest has, for instance annotations

    return work


# Delete


def to_delete(lab: Lab, given: Sequence[GivenManifest]) -> list[LabChange]:
    """The changes that deleting the objects makes; a namespace takes its objects along. Raises ManifestError."""
    problems = [
        f"{one.place('metadata.name')}: {object_name(one.item)}: a node of a running lab cannot be deleted; "
        f"run `headgate lab down`"
        for one in given
        if one.item["kind"] == "Node"
    ]
    if problems:
        raise ManifestError(problems)
    steps: dict[str, LabChange] = {}
    for one in given:
        found = lab.manifests.get(one.item)
        inside = _inside(lab, one.item) if found is not None else []
        for item in (*inside, one.item):
            gone = found is None
            steps.setdefault(
                object_name(item),
                LabChange(object_name(item), VERB_NOT_FOUND if gone else "deleted", _delete(lab, item)),
            )
    return list(steps.values())


VERB_NOT_FOUND = "not found"


def _inside(lab: Lab, item: Manifest) -> list[Manifest]:
    if item["kind"] != "Namespace":
        return []
    name = item["metadata"]["name"]
    return [other for other in lab.manifests.objects() if other["metadata"].get("namespace") == name]


def _delete(lab: Lab, item: Manifest) -> Work:
    key = _key(item)
    if item["kind"] == "Pod" and any(pod.key == key for pod in lab.topology.pods):

        def work(lab: Lab) -> None:
            with state.lab_locked(lab.base, lab.topology.name):
                lab.remove_pod(key)

        return work
    return lambda lab: lab.manifests.delete([item])
