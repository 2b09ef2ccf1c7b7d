"""One counter of packets with very many label values, as the client library's registry collects it.

The library keeps an object with two locks for each value of the labels, and takes longer to make it than a dump takes
to read the flows of a pod. Here each is a number. What is counted must not live here: see `packet_counters`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from controller.base.printable import printable
from controller.metrics.series import Series


class PacketTotals(Collector):
    """Packets by the values of the series' labels. Calls may come from any thread."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._packets: dict[tuple[object, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, labels: tuple[object, ...], packets: int) -> None:
        """So many packets more; 0 makes the series known."""
        with self._lock:
            self._packets[labels] = self._packets.get(labels, 0) + packets

    def remove(self, labels: tuple[object, ...]) -> None:
        """Drop the series with these labels, if there is one."""
        with self._lock:
            self._packets.pop(labels, None)

    def describe(self) -> Iterator[CounterMetricFamily]:
        """The series without values: the registry asks for its name."""
        yield CounterMetricFamily(self._series.name, self._series.help, labels=self._series.labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """All values. Labels come from switches and manifests: made printable, and what is equal then is one."""
        with self._lock:
            packets = list(self._packets.items())
        shown: dict[tuple[str, ...], int] = {}
        for labels, number in packets:
            text = tuple([printable(str(one)) for one in labels])
            shown[text] = shown.get(text, 0) + number
        (family,) = self.describe()
        for text, number in shown.items():
            family.add_metric(text, number)
        yield family
