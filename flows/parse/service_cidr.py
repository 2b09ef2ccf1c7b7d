"""From an untrusted ServiceCIDR to a value: the ranges that the API server gives Services their addresses from.

Source: k8s.io/api networking/v1 ServiceCIDR, and its validation: one range of each family at most.
"""

from __future__ import annotations

from flows.cluster.model import ServiceCidr
from flows.parse.untrusted import Errors, cidrs_at, cluster_name, object_at, require_object


def parse_service_cidr(untrusted: object, errors: Errors) -> ServiceCidr:
    """A ServiceCIDR. Invalid ranges are left out and appended to `errors`.

    Raises ParseError when metadata is not usable.
    """
    whole = require_object(untrusted, "ServiceCIDR")
    _, name = cluster_name(whole, "ServiceCIDR")
    spec = object_at(whole, "spec", "", errors)
    return ServiceCidr(name, cidrs_at(spec, "cidrs", "spec", errors))
