"""Assertions by hand: their form, their errors, and what a failure says."""

from __future__ import annotations

from typing import Any

import pytest

from flows.cluster.model import Cluster, Peer
from flows.lint.assertion_parse import parse_assertions
from flows.lint.assertions import Failure, failures
from flows.parse.untrusted import Errors
from tests.helpers.cluster.model_objects import (
    block,
    cluster,
    cluster_policy,
    cluster_rule,
    labels,
    pod,
    policy,
    rule,
    tcp,
    with_cluster_policies,
)

DB, WEB = {"namespace": "x", "labels": {"app": "db"}}, {"pod": "x/web"}


def _world(*policies: Any) -> Cluster:
    pods = [pod("x/web", 2, app="web"), pod("x/db", 3, app="db"), pod("y/job", 4, families=(4,), app="job")]
    return cluster(pods, [], {"x": {"team": "x"}, "y": {}}, *policies)


def _judge(world: Cluster, **assertion: Any) -> list[Failure]:
    errors: Errors = []
    wanted = parse_assertions({"spec": {"assertions": [assertion]}}, errors)
    assert not errors
    return list(failures(world, wanted))


SHUT = policy("x/db", labels(app="db"), [rule(Peer(labels(app="web")), tcp(5432))])


def test_a_can_reach_b() -> None:
    assert not _judge(_world(SHUT), **{"from": WEB, "to": DB, "ports": [5432], "expect": "allowed"})
    (found,) = _judge(_world(SHUT), **{"from": WEB, "to": DB, "ports": ["5432-5433/TCP"], "expect": "allowed"})
    assert found.message == (
        "x/web (10.0.0.2) does not reach x/db (10.0.0.3) on 5433/TCP, and 1 more pairs like it; "
        "ingress of pod x/db: isolated by x/db, nearest x/db ingress[0]"
    )


def test_nothing_outside_reaches_c() -> None:
    assert not _judge(_world(SHUT), **{"from": "outside", "to": DB, "expect": "denied"})
    leak = policy("x/leak", labels(app="db"), [rule(block("203.0.113.0/24", "203.0.113.0/25"), tcp(80))])
    (found,) = _judge(_world(SHUT, leak), **{"from": "outside", "to": DB, "expect": "denied"})
    assert "203.0.113.128 outside reaches x/db (10.0.0.3) on 80/TCP" in found.message
    assert "x/leak ingress[0] allows it" in found.message
    where = {"from": {"addresses": "203.0.113.0/25"}, "to": DB, "expect": "denied"}
    assert not _judge(_world(SHUT, leak), **where)


def test_only_d_talks_to_e() -> None:
    assert not _judge(_world(SHUT), **{"from": WEB, "to": DB, "expect": "only"})
    (found,) = _judge(_world(), **{"from": WEB, "to": DB, "expect": "only"})
    assert found.message.startswith("y/job (10.0.0.4) reaches x/db (10.0.0.3) on 1/TCP")
    (found,) = _judge(
        _world(SHUT), **{"from": {"not": WEB}, "to": {"namespaceLabels": {"team": "x"}}, "expect": "denied"}
    )
    assert "x/web" in found.message


def test_an_assertion_about_nothing_fails() -> None:
    (found,) = _judge(_world(), **{"from": {"labels": {"app": "wbe"}}, "to": DB, "expect": "denied"})
    assert (found.code.number, found.message) == ("HG202", "nothing matches `from`")
    (found,) = _judge(_world(), **{"from": DB, "to": DB, "expect": "allowed"})
    assert found.code.number == "HG202"


def test_protocols_without_ports_count_where_no_port_is_named() -> None:
    ports = policy("x/db", labels(app="db"), [rule(tcp(None))])
    assert not _judge(_world(ports), **{"from": WEB, "to": DB, "ports": ["TCP"], "expect": "allowed"})
    (found,) = _judge(_world(ports), **{"from": WEB, "to": DB, "expect": "allowed"})
    assert "on 1/UDP" in found.message or "on 1/SCTP" in found.message


def test_cluster_network_policies_decide_first() -> None:
    world = with_cluster_policies(_world(), cluster_policy("p", ingress=[cluster_rule("Deny")]))
    assert not _judge(world, **{"from": WEB, "to": DB, "expect": "denied"})
    (found,) = _judge(world, **{"from": WEB, "to": DB, "ports": ["5432/TCP"], "expect": "allowed"})
    assert "x/web (10.0.0.2) does not reach x/db (10.0.0.3) on 5432/TCP" in found.message
    assert "denied by" in found.message and "p ingress[0]" in found.message


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"expect": "open"}, "expect", "must be allowed, denied, only"),
        ({"form": "pods"}, "form", "is not a field"),
        ({"from": "nobody"}, "from", "must be outside, pods, anywhere"),
        ({"from": {}}, "from", "must be outside, pods, anywhere"),
        ({"from": {"lables": {}}}, "from.lables", "is not a field"),
        ({"from": {"pod": "web"}}, "from.pod", "is not NAMESPACE/NAME"),
        ({"from": {"addresses": "10.0.0.0/33"}}, "from.addresses", "is no address"),
        ({"from": {"addresses": "10.0.0.1", "pod": "x/a"}}, "from", "addresses stands alone"),
        ({"from": {"not": {"not": {"not": {"not": "pods"}}}}}, "from.not.not.not", "too many `not`"),
        ({"ports": ["0"]}, "ports[0]", "is no port"),
        ({"ports": ["90-80"]}, "ports[0]", "is no port"),
        ({"ports": [True]}, "ports[0]", "is no port"),
    ],
)
def test_errors_have_their_path(change: dict[str, Any], field: str, reason: str) -> None:
    errors: Errors = []
    whole = {"from": "pods", "to": "pods", "expect": "denied"} | change
    assert parse_assertions({"spec": {"assertions": [whole]}}, errors) == ()
    assert errors[0].field == f"spec.assertions[0].{field}" and reason in errors[0].reason


def test_an_object_without_assertions_is_an_error() -> None:
    bodies: list[Any] = [{}, {"spec": {}}, {"spec": {"assertions": []}}, [], {"spec": 5}]
    for untrusted in bodies:
        errors: Errors = []
        assert parse_assertions(untrusted, errors) == () and errors
