"""The workload that a pod belongs to: its controller among metadata.ownerReferences, as `Kind/name`.

A Deployment owns its pods through a ReplicaSet, a CronJob through a Job. Both name their child after themselves, so the
owner of the owner is known without reading it. Groups for people are made of this; no policy depends on it.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache

from flows.cluster.model import Labels
from flows.parse.names import subdomain_error
from flows.parse.untrusted import Errors, FieldError, JsonObject, list_at, quote

TEMPLATE_HASH_LABEL = (
    "pod-template-hash"  # a Deployment's ReplicaSet and its pods have it, and the set's name ends in it
)
NO_WORKLOAD = ""
_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}\Z")
_SCHEDULED = re.compile(r"(.+)-\d{8,11}\Z")  # a CronJob's Job: its name and the minute (before 1.21: second) it was due


def owner_at(metadata: JsonObject, labels: Labels, errors: Errors) -> str:
    """`Kind/name` of the pod's workload, `""` where no controller owns it. A static pod's Node is no workload."""
    if "ownerReferences" not in metadata:
        return NO_WORKLOAD
    for index, reference in enumerate(list_at(metadata, "ownerReferences", "metadata", errors)):
        if not isinstance(reference, dict) or reference.get("controller") is not True:
            continue
        kind, name = reference.get("kind"), reference.get("name")
        if not isinstance(kind, str) or not isinstance(name, str) or not _KIND.match(kind) or subdomain_error(name):
            errors.append(FieldError(f"metadata.ownerReferences[{index}]", f"{quote(f'{kind} {name}')} is not valid"))
            return NO_WORKLOAD
        return _workload(kind, name, labels.get(TEMPLATE_HASH_LABEL, ""))
    return NO_WORKLOAD


@lru_cache(1 << 16)
def _workload(kind: str, name: str, template_hash: str) -> str:
    """One shared text for all pods of a workload."""
    if kind == "Node":
        return NO_WORKLOAD
    if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
        kind, name = "Deployment", name.removesuffix(f"-{template_hash}")
    elif kind == "Job" and (scheduled := _SCHEDULED.match(name)):
        kind, name = "CronJob", scheduled[1]
    return sys.intern(f"{kind}/{name}")
