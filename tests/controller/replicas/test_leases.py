"""Leases as values and back; what others may write there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.ownership import MAX_MEMBERS, Member, View
from controller.replicas.leases import MemberLease, ViewLease, member_json, read_leases, view_json

LEASE = MemberLease(Member("a", "i1"), 5.0, 3, True, "192.0.2.1:8080", "tcp:192.0.2.1:6653", "1.0", "77")


def test_what_is_written_is_read_back() -> None:
    view = View(7, (Member("a", "i1"), Member("b", "i2")))
    found = read_leases({"items": [member_json(LEASE), view_json(view, LEASE.member, "78")]}, 1.0, 2.0)
    assert found.members == (LEASE,)
    assert found.view == ViewLease(view, "78")
    assert (found.began, found.ended) == (1.0, 2.0)


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"holderIdentity": ""}},
        {"spec": {"holderIdentity": "b"}},
        {"spec": {"holderIdentity": 3}},
        {"spec": None},
        {"metadata": {"name": "headgate-a"}},
        {"metadata": {"name": "other", "annotations": {"headgate.io/incarnation": "x"}}},
    ],
)
def test_a_lease_that_is_not_as_written_here_is_no_member(change: dict[str, Any]) -> None:
    assert read_leases({"items": [{**member_json(LEASE), **change}]}, 0.0, 0.0).members == ()


def test_a_member_cannot_keep_its_switches_for_ever() -> None:
    written = member_json(LEASE)
    written["spec"]["leaseDurationSeconds"] = 10**9
    (found,) = read_leases({"items": [written]}, 0.0, 0.0).members
    assert found.seconds == 300.0


@pytest.mark.parametrize("text", ["", "[", '{"a": 1}', '[["a"]]', "[1, 2]", "[" * 5000])
def test_a_view_that_cannot_be_read_has_no_members(text: str) -> None:
    written = view_json(View(4, ()), LEASE.member, "1")
    written["metadata"]["annotations"]["headgate.io/members"] = text
    found = read_leases({"items": [written]}, 0.0, 0.0).view
    assert found == ViewLease(View(4, ()), "1")


def test_the_number_of_members_is_bounded() -> None:
    items = [member_json(MemberLease(Member(f"m{number}", "i"), 5.0)) for number in range(10 * MAX_MEMBERS)]
    assert len(read_leases({"items": items}, 0.0, 0.0).members) <= MAX_MEMBERS


KEYS = st.sampled_from(["name", "spec", "metadata", "annotations", "items"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(KEYS, some),
    max_leaves=8,
)


@given(JSON)
def test_nothing_raises(body: object) -> None:
    read_leases(body, 0.0, 0.0)
    read_leases({"items": [body, {"metadata": {"name": "headgate"}, "spec": body}]}, 0.0, 0.0)
