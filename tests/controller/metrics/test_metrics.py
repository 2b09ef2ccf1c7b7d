"""Packet counters go on when those of a switch begin anew, and series go with the pods and rules that they count."""

from __future__ import annotations

import re

import pytest
from prometheus_client import generate_latest

from controller.metrics.packet_counters import AllowedLabels, CounterSample, DeniedLabels
from controller.metrics.registry import Metrics
from controller.metrics.series import DECLARED_SERIES, PROCESS_SERIES

DENIED = DeniedLabels("tenant-a", "backend-1", "ingress", "tenant-a/pol1")
RULE = AllowedLabels("tenant-a", "pol1", "ingress", 0)
DENIED_LABELS = DENIED._asdict()


def value(metrics: Metrics, name: str, labels: dict[str, str] | None = None) -> float | None:
    return metrics.registry.get_sample_value(name, labels or {})


def test_everything_declared_is_exposed_under_its_name() -> None:
    metrics = Metrics("1.2.3", "native")
    text = generate_latest(metrics.registry).decode()
    for series in DECLARED_SERIES:
        assert f"# TYPE {series.exposed} " in text
        assert series.name.startswith("headgate_") and series.help.endswith(".")
    assert 'headgate_build_info{hub="native"' in text
    assert text.count("# TYPE headgate_") == len(DECLARED_SERIES)


def test_the_process_is_measured_as_declared() -> None:
    text = generate_latest(Metrics("1", "native").registry).decode()
    found = re.findall(r"^# TYPE (process_\w+) (\w+)", text, re.MULTILINE)
    assert sorted(found) == sorted((name, kind) for name, kind, _ in PROCESS_SERIES)


def test_other_policies_take_over_what_is_denied_from_now_on() -> None:
    metrics = Metrics("1", "native")
    after = DENIED._replace(policies="tenant-a/other")
    for counts, packets, duration in ((DENIED, 5, 1), (after, 7, 2), (after, 8, 3)):
        metrics.packets.observe("n", "br", {"flow": CounterSample((counts,), packets, duration)})
    assert value(metrics, "headgate_denied_packets_total", DENIED_LABELS) is None
    assert value(metrics, "headgate_denied_packets_total", after._asdict()) == 3


def test_packets_are_counted_on_from_dump_to_dump() -> None:
    metrics = Metrics("1", "native")
    for packets, duration in ((5, 10), (5, 11), (9, 12)):
        metrics.packets.observe("n", "br", {"flow": CounterSample((DENIED,), packets, duration)})
    assert value(metrics, "headgate_denied_packets_total", DENIED_LABELS) == 9


def test_a_flow_that_began_anew_adds_all_it_counts() -> None:
    metrics = Metrics("1", "native")
    # The last one counts more than before and is still a new flow: it is younger.
    for packets, duration in ((5, 10), (2, 1), (8, 0)):
        metrics.packets.observe("n", "br", {"flow": CounterSample((DENIED,), packets, duration)})
    assert value(metrics, "headgate_denied_packets_total", DENIED_LABELS) == 5 + 2 + 8


def test_flows_of_several_switches_feed_one_rule() -> None:
    metrics = Metrics("1", "native")
    metrics.packets.observe("n1", "br", {"a": CounterSample((RULE,), 3, 1), "b": CounterSample((RULE,), 4, 1)})
    metrics.packets.observe("n2", "br", {"a": CounterSample((RULE,), 10, 1)})
    labels = {"namespace": "tenant-a", "policy": "pol1", "direction": "ingress", "rule": "0"}
    assert value(metrics, "headgate_allowed_packets_total", labels) == 17
    metrics.forget_switch("n2", "br")
    assert value(metrics, "headgate_allowed_packets_total", labels) == 17
    metrics.packets.observe("n1", "br", {})
    metrics.packets.retire(lambda counts: True)
    assert value(metrics, "headgate_allowed_packets_total", labels) == 17
    metrics.packets.observe("n1", "br", {"a": CounterSample((RULE,), 2, 0)})
    assert value(metrics, "headgate_allowed_packets_total", labels) == 19
    metrics.packets.observe("n1", "br", {})
    metrics.packets.retire(lambda counts: counts != RULE)
    assert value(metrics, "headgate_allowed_packets_total", labels) is None
    assert not metrics.packets._feeds
    assert not metrics.packets._unfed


def test_a_flow_key_that_counts_for_another_pod_now_counts_from_there_on() -> None:
    metrics = Metrics("1", "native")
    other = DENIED._replace(pod="other")
    metrics.packets.observe("n", "br", {"flow": CounterSample((DENIED,), 5, 1)})
    metrics.packets.observe("n", "br", {"flow": CounterSample((other,), 6, 2)})
    metrics.packets.observe("n", "br", {"flow": CounterSample((other,), 9, 3)})
    metrics.packets.retire(lambda counts: counts == other)
    assert value(metrics, "headgate_denied_packets_total", DENIED_LABELS) is None
    assert value(metrics, "headgate_denied_packets_total", {**DENIED_LABELS, "pod": "other"}) == 3


def test_a_rule_of_several_policies_counts_for_each_and_never_for_one_what_was_anothers() -> None:
    metrics = Metrics("1", "native")
    second = RULE._replace(policy="pol2")

    def seen(rule: AllowedLabels) -> float | None:
        labels = {"namespace": "tenant-a", "policy": rule.policy, "direction": "ingress", "rule": "0"}
        return value(metrics, "headgate_allowed_packets_total", labels)

    shared: list[tuple[tuple[AllowedLabels, ...], int]] = [((RULE,), 100), ((RULE, second), 110), ((RULE, second), 115)]
    for age, (owners, packets) in enumerate([*shared, ((second,), 120)], 1):
        metrics.packets.observe("n", "br", {"flow": CounterSample(owners, packets, age, b"one")})
    assert (seen(RULE), seen(second)) == (115, 10)
    # Another rule has its number, and so its flow, now.
    metrics.packets.observe("n", "br", {"flow": CounterSample((RULE,), 130, 9, b"another")})
    assert (seen(RULE), seen(second)) == (115, 10)
    metrics.packets.observe("n", "br", {"flow": CounterSample((RULE,), 131, 10, b"another")})
    assert (seen(RULE), seen(second)) == (116, 10)


def test_gauges_follow_the_switch_and_go_with_it() -> None:
    metrics = Metrics("1", "native")
    labels = {"node": "n", "bridge": "br"}
    metrics.switch("n", "br", desired=8, actual=None, foreign=1, in_sync=False)
    assert value(metrics, "headgate_desired_flows", labels) == 8
    assert value(metrics, "headgate_actual_flows", labels) is None
    metrics.bundle_committed("n", "br", adds=8, modifies=0, deletes=1)
    metrics.bundle_failed("n", "br")
    assert value(metrics, "headgate_flow_mods_total", {**labels, "change": "add"}) == 8
    assert value(metrics, "headgate_bundles_total", {**labels, "result": "failed"}) == 1
    metrics.forget_switch("n", "br")
    assert value(metrics, "headgate_desired_flows", labels) is None
    assert b'node="n"' not in generate_latest(metrics.registry)
    metrics.forget_switch("never", "seen")


def test_times_and_totals() -> None:
    metrics = Metrics("1", "native")
    metrics.port_programmed(0.02)
    metrics.reconciled(0.003)
    metrics.world(policies=3, unrealized=1, pods=9)
    metrics.connections(openflow=2, ovsdb=1)
    metrics.source("manifests", synced=True, problems=2, age=1.5)
    assert value(metrics, "headgate_port_to_programmed_seconds_count") == 1
    assert value(metrics, "headgate_policies_unrealized") == 1
    assert value(metrics, "headgate_source_problems", {"source": "manifests"}) == 2


def ours(metrics: Metrics) -> list[bytes]:
    """All series but those of the process itself, which change by themselves."""
    return [line for line in generate_latest(metrics.registry).splitlines() if not line.startswith(b"process_")]


@pytest.mark.slow
def test_switches_and_objects_that_come_and_go_leave_no_series() -> None:
    metrics = Metrics("1", "native")
    empty = ours(metrics)
    for number in range(300):
        node = f"node-{number}"
        metrics.switch(node, "br", desired=8, actual=8, foreign=1, in_sync=True)
        metrics.connected(node, "br", True)
        for reason in ("waiting", "refused", "refused", "ovsdb"):
            metrics.away(node, "br", reason)
        assert generate_latest(metrics.registry).count(b"headgate_switch_away{") == 1
        metrics.bundle_committed(node, "br", adds=8, modifies=0, deletes=1)
        metrics.bundle_failed(node, "br")
        denied = DENIED._replace(pod=f"pod-{number}")
        metrics.packets.observe(node, "br", {"a": CounterSample((denied,), 1, 1), "b": CounterSample((denied,), 2, 1)})
        metrics.forget_switch(node, "br")
    metrics.packets.retire(lambda _: False)
    assert ours(metrics) == empty
    assert not (metrics.packets._samples or metrics.packets._feeds or metrics.packets._unfed)


def test_labels_have_no_control_characters() -> None:
    metrics = Metrics("1", "native")
    evil = "evil\x1b[2J\nname"
    metrics.switch(evil, evil, desired=8, actual=8, foreign=1, in_sync=True)
    metrics.bundle_committed(evil, evil, adds=8, modifies=0, deletes=1)
    metrics.bundle_failed(evil, evil)
    metrics.source(evil, True, 1, 1.0)
    metrics.tls_refused(evil, evil)
    metrics.packets.observe(evil, evil, {"a": CounterSample((DeniedLabels(evil, evil, "ingress"),), 1, 1)})
    text = generate_latest(metrics.registry).decode()
    assert "evil" in text
    assert "\x1b" not in text
    metrics.forget_switch(evil, evil)
    assert (
        value(metrics, "headgate_desired_flows", {"node": r"evil\x1b[2J\nname", "bridge": r"evil\x1b[2J\nname"}) is None
    )
