"""Short ways to write policies, as objects and as the text that `Lab.apply` takes."""

from __future__ import annotations

from typing import Any

import yaml

Spec = dict[str, Any]


def policy(name: str, spec: Spec) -> Spec:
    """A NetworkPolicy; `name` is `namespace/name`, `spec` its spec without podSelector where that is {}."""
    namespace, _, short = name.partition("/")
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": short},
        "spec": {"podSelector": {}, **spec},
    }


def policies(wanted: dict[str, Spec]) -> str:
    """Several policies by name, as YAML text."""
    return yaml.safe_dump_all([policy(name, spec) for name, spec in wanted.items()])


def pods(*names: str) -> Spec:
    """A selector of pods by the world's label `pod`."""
    return {"matchExpressions": [{"key": "pod", "operator": "In", "values": list(names)}]}


def port(number: int, protocol: str = "TCP", end: int | None = None) -> Spec:
    """An entry of a rule's ports."""
    return {"port": number, "protocol": protocol, **({"endPort": end} if end else {})}
