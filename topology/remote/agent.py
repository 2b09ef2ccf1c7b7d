"""Executes requests on a machine of a lab: one JSON request a line on standard input, one JSON answer a line on output.

Started over ssh as `headgate lab machine serve`, so that it needs no open port. Requests are {"do": NAME, ...}, answers
{"ok": ...} or {"error": TEXT}. See `session` for the other side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, TextIO

from topology.errors import LabError
from topology.probe.client import PROBE_PATIENCE
from topology.probe.matrix import LabProbe
from topology.probe.traffic import Traffic
from topology.remote.node import MachineNode

Request = Mapping[str, Any]
DRAIN_SECONDS = 10.0


class Agent:
    """Answers requests. `node` is this machine's part of the lab."""

    def __init__(self, node: MachineNode) -> None:
        self._node = node
        self._stack = ExitStack()
        self._traffic: Traffic | None = None

    def serve(self, requests: Iterable[str], answers: TextIO) -> None:
        """Answer requests until they end, then end continuous traffic, too."""
        with self._stack:
            for line in requests:
                answers.write(json.dumps(self._answer(line)) + "\n")
                answers.flush()

    def _answer(self, line: str) -> dict[str, Any]:
        handlers: dict[str, Callable[[Request], Any]] = {
            "probe": self._probe,
            "traffic": self._start_traffic,
            "counts": self._counts,
            "stop": self._stop,
        }
        try:
            request: Request = json.loads(line)
            return {"ok": handlers[request["do"]](request)}
        except (LabError, OSError, ValueError, KeyError, TypeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _probe(self, request: Request) -> list[str]:
        """The outcomes of {"probes": [[source, destination, protocol, port, family], ...], "patience": [seconds, ...],
        "expected": [whether, ...]}, in that order."""
        probes = [LabProbe(*one) for one in request["probes"]]
        verdicts = request.get("expected")
        expected = dict(zip(probes, verdicts, strict=True)) if verdicts is not None else None
        believe = None if expected is None else lambda probe: bool(expected[probe])
        seen = self._node.run_probes(probes, request.get("patience", PROBE_PATIENCE), believe)
        return [seen.results[probe].value for probe in probes]

    def _start_traffic(self, request: Request) -> None:
        """Start continuous traffic for {"probes": [...]}, a message each `interval` seconds."""
        if self._traffic is not None:
            raise LabError("there is traffic already")
        probes = [LabProbe(*one) for one in request["probes"]]
        node = self._node
        traffic = Traffic(probes, node.endpoints, node.netns_folder, request.get("interval", 0.05))
        self._traffic = self._stack.enter_context(traffic)

    def _counts(self, _: Request) -> list[list[int]]:
        """Messages sent and answered so far, in the order of the flows."""
        return [[flow.sent, flow.answered] for flow in self._current_traffic().flows]

    def _stop(self, _: Request) -> list[list[int]]:
        """Stop sending, wait DRAIN_SECONDS for answers, and end the flows; returns counts as `_counts`."""
        traffic = self._current_traffic()
        traffic.drain(DRAIN_SECONDS)
        counts = self._counts({})
        self._stack.close()
        self._traffic = None
        return counts

    def _current_traffic(self) -> Traffic:
        if self._traffic is None:
            raise LabError("there is no traffic")
        return self._traffic
