"""Metrics by label values. The values come from untrusted text, and /metrics is read on terminals too."""

from __future__ import annotations

from typing import TypeVar

from prometheus_client import Counter, Gauge

from controller.base.printable import printable

M = TypeVar("M", Counter, Gauge)


def labelled(metric: M, *labels: str) -> M:
    """The metric with these label values, made printable: they come from switches and manifests."""
    return metric.labels(*map(printable, labels))


def remove_labelled(metric: Counter | Gauge, labels: tuple[str, ...]) -> None:
    """Drop the metric with these label values, if there is one."""
    try:
        metric.remove(*map(printable, labels))
    except KeyError:
        # It was never set, as for a switch that disconnected before its first dump.
        return
