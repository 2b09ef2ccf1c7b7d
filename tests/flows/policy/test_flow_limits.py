"""Flow limits are applied before anything is expanded, and fail closed for the policies above them only."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cluster.net import ADDRESS_BITS, Net
from flows.parse.network_policy import parse_policy
from flows.policy import flow_limits
from flows.policy.flow_limits import namespaces_over_limit, policy_flows


def scattered(count: int, version: int) -> list[str]:
    chance = random.Random(count)
    width = ADDRESS_BITS[version]
    return [f"{Net(version, chance.getrandbits(width), width)}/{width}" for _ in range(count)]


def excepting(version: int, count: int, **more: object) -> dict[str, object]:
    block = {"cidr": "0.0.0.0/0" if version == 4 else "::/0", "except": scattered(count, version)}
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": block}]}], **more}
    return {"metadata": {"name": "big", "namespace": "x"}, "spec": spec}


@pytest.mark.parametrize(("version", "count"), [(4, 10_000), (6, 10_000), (6, 40_000)])
def test_a_policy_above_the_limit_isolates_and_allows_nothing(version: int, count: int) -> None:
    raw = excepting(version, count)
    began = time.process_time()
    policy = parse_policy(raw, [])
    assert time.process_time() - began < 10
    assert policy.isolates
    assert policy.egress == (None,)
    (error,) = policy.errors
    assert "flows; a policy may have 65,536; none of its rules counts" in error
    assert not policy_flows(policy)


def test_a_policy_below_the_limit_is_accepted() -> None:
    policy = parse_policy(excepting(6, 500), [])
    assert not policy.errors
    assert 50_000 < policy_flows(policy) <= flow_limits.MAX_POLICY_FLOWS


weights = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 1 << 12))


@given(weights, st.integers(1, 1 << 13))
def test_the_heaviest_namespaces_are_left_out_until_the_rest_fits(known: dict[str, int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_limits, "MAX_BRIDGE_FLOWS", most)
        out = namespaces_over_limit(known)
        kept = known.keys() - out
        assert sum(known[name] for name in kept) <= most
        assert all(known[one] > known[other] for one in out for other in kept)
        assert bool(out) == (sum(known.values()) > most)
        assert namespaces_over_limit(dict(reversed(known.items()))) == out
