"""The dashboard and the alerts speak of metrics, and labels of metrics, that there are; each alert is explained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import Histogram

from controller.metrics.series import DECLARED_SERIES
from tests.helpers.paths import ROOT

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "headgate.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "headgate-alerts.yaml").read_text())
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

EXPOSED = {series.exposed: series.labels for series in DECLARED_SERIES}
BUCKETS = {f"{series.exposed}_bucket": (*series.labels, "le") for series in DECLARED_SERIES if series.kind is Histogram}
KNOWN = EXPOSED | BUCKETS
OF_NODES = {"HeadgateSwitchNotInSync", "HeadgateSwitchAway", "HeadgateNodeNotReady", "HeadgateBundlesFail"}
METRIC = re.compile(r"headgate_\w+")
LABELS = re.compile(r"by \(([\w, ]+)\)|\{(\w+)=")


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """A query's place in the file, and the query."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_every_metric_and_label_is_declared(where: str, query: str) -> None:
    names = METRIC.findall(query)
    assert names, where
    assert set(names) <= set(KNOWN), where
    labels = {label.strip() for match in LABELS.findall(query) for label in (match[0] or match[1]).split(",")}
    assert labels <= {label for name in names for label in KNOWN[name]}, where


def test_the_dashboard_shows_every_metric() -> None:
    shown = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ()))
    missing = {name for name in EXPOSED if name not in shown} - {"headgate_build_info", "headgate_source_synced"}
    assert missing == set()


def test_the_dashboard_hangs_together() -> None:
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    for panel in DASHBOARD["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_about_a_node_names_it(rule: dict[str, Any]) -> None:
    """The summary tells the labels of the series that an alert is about; a sum keeps those it is grouped by."""
    grouped = re.findall(r"by \(([\w, ]+)\)", rule["expr"])
    of_metrics = {label for name in METRIC.findall(rule["expr"]) for label in KNOWN[name]}
    labels = {one.strip() for text in grouped for one in text.split(",")} if grouped else of_metrics
    if "(headgate_" in rule["expr"] and "absent(" in rule["expr"]:
        labels = set()
    summary = rule["annotations"]["summary"]
    for label in labels & {"node", "source", "channel", "reason"}:
        assert f"{{{{ $labels.{label} }}}}" in summary
    if rule["alert"] in OF_NODES:
        assert summary.startswith("Node {{ $labels.node }}: ")


def test_every_alert_is_explained_and_nothing_else() -> None:
    explained = re.findall(r"^### (Headgate\w+)", OPERATIONS, re.MULTILINE)
    assert sorted(explained) == sorted(rule["alert"] for rule in rules())
    for rule in rules():
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
