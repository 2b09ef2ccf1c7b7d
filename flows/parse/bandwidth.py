"""Whether a pod asks for a bandwidth, by annotations of the CNI's bandwidth plugin. Their values do not matter."""

from __future__ import annotations

from flows.parse.untrusted import JsonObject

BANDWIDTH_ANNOTATIONS = ("kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth")


def limits_bandwidth(metadata: JsonObject) -> bool:
    """Whether any of the annotations is there."""
    annotations = metadata.get("annotations")
    return isinstance(annotations, dict) and any(one in annotations for one in BANDWIDTH_ANNOTATIONS)
