"""Controls the machines of a lab from elsewhere: one agent on each, reached by ssh or another command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

from topology.errors import LabError
from topology.probe.client import PROBE_PATIENCE, Expectation
from topology.probe.matrix import LabProbe, Matrix, Outcome


class AgentSession:
    """A connection to the agent that `command` starts, as a context manager. Not thread-safe."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> AgentSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(self, what: str, **more: object) -> Any:
        """Send a request to the agent and return its answer. Raises LabError with the agent's error."""
        line = json.dumps({"do": what, **more})
        if self._process.stdin is None or self._process.stdout is None:
            raise LabError(f"{self.name}: not connected")
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise LabError(f"{self.name}: its agent does not read: {error}") from error
        reply = self._process.stdout.readline()
        if not reply:
            raise LabError(f"{self.name}: its agent exited with {self._process.wait()}")
        answer = json.loads(reply)
        if "error" in answer:
            raise LabError(f"{self.name}: {answer['error']}")
        return answer["ok"]

    def close(self) -> None:
        """End the agent by closing its input, or with SIGKILL after 10 s."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class _Share(NamedTuple):
    """The probes that start on one machine."""

    session: AgentSession
    probes: list[LabProbe]


class MachineFleet:
    """The machines that probes start on: `homes` has the session of each source endpoint."""

    def __init__(self, homes: Mapping[str, AgentSession]) -> None:
        self._homes = homes

    def run_probes(
        self,
        probes: Sequence[LabProbe],
        patience: Sequence[float] = PROBE_PATIENCE,
        expected: Expectation | None = None,
    ) -> Matrix:
        """Run each probe on the machine of its source, all machines at once; results in the same order."""
        shares: dict[str, _Share] = {}
        for probe in probes:
            session = self._homes[probe.source]
            shares.setdefault(session.name, _Share(session, [])).probes.append(probe)

        def run(share: _Share) -> dict[LabProbe, Outcome]:
            more = {} if expected is None else {"expected": [expected(probe) for probe in share.probes]}
            seen = share.session.request("probe", probes=share.probes, patience=list(patience), **more)
            return {probe: Outcome(text) for probe, text in zip(share.probes, seen, strict=True)}

        found: dict[LabProbe, Outcome] = {}
        with ThreadPoolExecutor(max(1, len(shares))) as pool:
            for part in pool.map(run, shares.values()):
                found |= part
        return Matrix({probe: found[probe] for probe in probes})
