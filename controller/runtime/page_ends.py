"""From a row or column of the matrix to something that can be asked about: one of its pods, or one of its addresses."""

from __future__ import annotations

from controller.status.detail_model import BadQuestion
from flows.cluster.model import Cluster
from flows.cluster.net import parse_address
from flows.reach.ends import workload_of


def stand_in(cluster: Cluster, text: str, other: str = "") -> tuple[str, str]:
    """What to ask about in the place of a workload, a namespace or a range of addresses, and a note that says so.

    `other` is a pod that is not to be chosen where there is a choice. Any other text is left as it is. Raises
    BadQuestion for a workload without a pod.
    """
    if "/" in text and text.endswith("]"):
        space, _, workload = text.partition("/")
        return _pod_of(cluster, text, space, workload, other)
    if "/" not in text and text not in cluster.nodes and text in _namespaces(cluster):
        return _pod_of(cluster, text, text, "", other)
    first, dash, _ = text.partition(",")[0].partition("-")
    if dash:
        try:
            net = parse_address(first)
        except ValueError:
            return text, ""
        # The first address of all stands for no host.
        found = str(net._replace(value=net.value + 1)) if net.value == 0 else first
        return found, f"{found} stands for {_short(text)}"
    return text, ""


def _namespaces(cluster: Cluster) -> set[str]:
    return {key.namespace for key in cluster.pods}


def _pod_of(cluster: Cluster, text: str, space: str, workload: str, other: str) -> tuple[str, str]:
    found = ""
    for pod in cluster.pods.values():
        if pod.networked and pod.addresses and pod.key.namespace == space and workload in ("", workload_of(pod)):
            found = str(pod.key)
            if found != other:
                break
    if not found:
        raise BadQuestion(f"no pod of {text} has an address")
    return f"pod:{found}", f"pod {found} stands for {text}"


def _short(text: str) -> str:
    ranges = text.split(",")
    return text if len(ranges) < 3 else f"{ranges[0]} and {len(ranges) - 1} more ranges"
