"""The original policy API once more, straight from raw objects: what a test holds the translation against.

Written after the pseudo-code of Kubernetes' network-policy proposal (1.3), without the model's policies: namespaces and
policies are plain data here, and only pods and nodes come from the model. Sources are judged by their address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.cluster.model import Cluster, Pod, Protocol
from flows.cluster.net import Net
from flows.policy.probe import Probe

Raw = Mapping[str, Any]
SWITCHES = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


@dataclass(frozen=True)
class OriginalApi:
    """A namespace's annotations by its name, and policies of both forms, as the API has them."""

    annotations: Mapping[str, Mapping[str, str]]
    alpha: tuple[Raw, ...] = ()
    beta: tuple[Raw, ...] = ()

    def alpha_on(self, namespace: str) -> bool:
        word = self.annotations.get(namespace, {}).get("net.alpha.kubernetes.io/network-isolation")
        return word is not None and SWITCHES.get(word, True)

    def beta_on(self, namespace: str) -> bool:
        text = self.annotations.get(namespace, {}).get("net.beta.kubernetes.io/network-policy")
        if text is None:
            return False
        try:
            isolation = json.loads(text).get("ingress", {}).get("isolation")
        except (ValueError, AttributeError):
            return True
        return isolation is not None

    def isolates(self, pod: Pod) -> bool:
        return self.alpha_on(pod.key.namespace) or self.beta_on(pod.key.namespace)

    def opens(self, cluster: Cluster, pod: Pod, probe: Probe) -> bool:
        """Does a policy that has force let this connection in."""
        home = pod.key.namespace
        rules: list[tuple[Raw, str]] = []
        for policy in self.alpha if self.alpha_on(home) else ():
            spec = policy["spec"]
            if policy["metadata"]["namespace"] == home and has(pod.labels, spec["podSelector"]):
                rules += [(spec["allowIncoming"], "toPorts")] if "allowIncoming" in spec else []
        for policy in self.beta if self.beta_on(home) else ():
            spec = policy["spec"]
            if policy["metadata"]["namespace"] == home and selects(spec["podSelector"], pod.labels):
                rules += [(rule, "ports") for rule in spec.get("ingress", ())]
        return any(
            ("from" not in rule or any(comes_from(cluster, home, peer, probe.source.address) for peer in rule["from"]))
            and (ports not in rule or any(goes_to(pod, port, probe) for port in rule[ports]))
            for rule, ports in rules
        )


def has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def selects(selector: Raw, labels: Mapping[str, str]) -> bool:
    hidden = {term["key"]: term["values"] for term in selector.get("matchExpressions", ())}  # all of them are NotIn
    return has(labels, selector.get("matchLabels", {})) and all(labels.get(key) not in hidden[key] for key in hidden)


def comes_from(cluster: Cluster, home: str, peer: Raw, address: Net) -> bool:
    """All pods that have the address must fit, and there must be one."""
    found = [pod for pod in cluster.pods.values() if pod.networked and address in pod.addresses]
    return bool(found) and all(_is(cluster, home, peer, pod) for pod in found)


def _is(cluster: Cluster, home: str, peer: Raw, pod: Pod) -> bool:
    around = cluster.namespace_labels(pod.key.namespace)
    if "podSelector" in peer:
        return pod.key.namespace == home and selects(peer["podSelector"], pod.labels)
    if "namespaceSelector" in peer:
        return selects(peer["namespaceSelector"], around)
    right_place = has(around, peer["namespaces"]) if "namespaces" in peer else pod.key.namespace == home
    return right_place and has(pod.labels, peer.get("pods", {}))


def goes_to(pod: Pod, port: Raw, probe: Probe) -> bool:
    protocol = Protocol[port.get("protocol", "TCP").upper()]
    if probe.protocol != protocol:
        return False
    wanted = port.get("port")
    if isinstance(wanted, str):
        return any((own.name, own.number, own.protocol) == (wanted, probe.port, protocol) for own in pod.ports)
    return wanted is None or wanted == probe.port
