"""Label selectors: does one set of labels match, with the Kubernetes meaning of a missing key.

Finding all pods that match is in `flows.policy.pod_index`.
"""

from __future__ import annotations

from flows.cluster.model import Labels, Operator, Requirement, Selector


def matches(selector: Selector, labels: Labels) -> bool:
    """True when every requirement holds (meta/v1 LabelSelector: requirements are ANDed, none selects all)."""
    for requirement in selector.requirements:  # noqa: SIM110 - a generator would take longer than most terms do
        if not requirement_holds(requirement, labels):
            return False
    return True


def requirement_holds(requirement: Requirement, labels: Labels) -> bool:
    """One requirement against labels. A missing key satisfies NotIn and DoesNotExist, and neither of the others."""
    value = labels.get(requirement.key)
    if requirement.operator is Operator.IN:
        return value in requirement.values and value is not None
    if requirement.operator is Operator.NOT_IN:
        return value is None or value not in requirement.values
    if requirement.operator is Operator.EXISTS:
        return value is not None
    return value is None
