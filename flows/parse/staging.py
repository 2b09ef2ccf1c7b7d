"""Whether a NetworkPolicy is staged, by its annotation `headgate.io/mode`.

Fails closed: a policy whose annotation cannot be read is in force, and so is one of a kind that cannot be staged.
"""

from __future__ import annotations

from flows.cluster.model import ClusterPolicy, Policy
from flows.cluster.staging import AUDIT, AUDIT_DELETION, ENFORCE, MODE_ANNOTATION
from flows.parse.untrusted import Errors, FieldError, JsonObject, describe

_PATH = f"metadata.annotations[{MODE_ANNOTATION}]"


def staged_by_annotation(policy: Policy, metadata: JsonObject, errors: Errors) -> Policy:
    """The policy as its annotation stages it. An unknown value is appended to `errors`, and noted in the policy."""
    mode = _mode(metadata)
    if mode == ENFORCE:
        return policy
    if mode == AUDIT:
        return policy.stage()
    if mode == AUDIT_DELETION:
        return policy.stage_deletion()
    said = f"must be {AUDIT}, {AUDIT_DELETION} or {ENFORCE}, not {describe(mode)}; the policy is in force"
    error = FieldError(_PATH, said)
    errors.append(error)
    return policy._replace(errors=(*policy.errors, str(error)))


def in_force_whatever_its_annotation(policy: ClusterPolicy, metadata: JsonObject, errors: Errors) -> ClusterPolicy:
    """A policy of the whole cluster, which cannot be staged. An annotation that asks for it is appended to `errors`,
    and noted in the policy."""
    mode = _mode(metadata)
    if mode == ENFORCE:
        return policy
    error = FieldError(_PATH, f"only a NetworkPolicy can be staged, so {describe(mode)} has no effect: it is in force")
    errors.append(error)
    return policy._replace(errors=(*policy.errors, str(error)))


def _mode(metadata: JsonObject) -> object:
    annotations = metadata.get("annotations")
    return annotations.get(MODE_ANNOTATION, ENFORCE) if isinstance(annotations, dict) else ENFORCE
