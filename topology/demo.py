"""The demonstration of `headgate demo`: a lab, a probe matrix, a policy, the matrix again, the policy's flows, and a
running connection that is interrupted and resumed.

Uses Headgate as an operator does and prints each step to a console. The lab is removed at the end, also after an error.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from topology.errors import LabError
from topology.host import machine
from topology.host.netns import inside
from topology.lab.lab import Lab
from topology.lab.state import LABS_FOLDER
from topology.probe.matrix import Matrix
from topology.probe.render import outcome_summary, print_matrix
from topology.scenarios import model as scenarios
from topology.spec.load import load_topology

DEMO_LAB = "headgate-demo"
DEMO_SOURCE, DEMO_TARGET, DEMO_PORT = "tenant-a/frontend", "tenant-a/backend", 80
EXCHANGES = 5
LOST_AFTER = 1.0  # seconds without an answer until a connection counts as interrupted; answers take about a millisecond


class DemoConnection:
    """A TCP connection from one pod to another, over which lines are sent and echoed."""

    def __init__(self, lab: Lab, source: str, target: str, port: int) -> None:
        with inside(lab.netns(source)):
            self._socket = socket.create_connection((str(lab.endpoints[target].addresses[4]), port), timeout=5)
        self._socket.settimeout(LOST_AFTER)
        self.answered = 0
        self._socket.recv(4096)  # the server sends its name first

    def exchange(self) -> bool:
        """Send a line and wait for its echo; False when none arrives: packets are dropped."""
        line = f"line {self.answered}\n".encode()
        try:
            self._socket.sendall(line)
            while line not in self._socket.recv(65536):
                continue
        except TimeoutError:
            return False
        self.answered += 1
        return True

    def resumed(self, timeout: float) -> bool:
        """Wait until an outstanding echo arrives; TCP retransmits the line. False after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if self._socket.recv(65536):
                    return True
            except TimeoutError:
                continue
        return False

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def run_demo(datapath: machine.DatapathChoice, console: Console, base: Path = LABS_FOLDER) -> bool:
    """Run the demonstration. Returns whether every step came out as expected. Raises LabError."""
    lab = Lab(load_topology(name=DEMO_LAB), base)
    lab.down()
    try:
        with _step(console, "Two nodes, four pods, one controller"):
            lab.up(datapath, progress=lambda text: console.print(f"  [dim]{text}[/dim]"))
        chosen = lab.current().datapath
        module = "the kernel has the openvswitch module" if chosen == "kernel" else "no kernel module is needed"
        console.print(f"  Open vSwitch with its [bold]{chosen}[/bold] datapath ({module})")
        return _show(lab, console)
    finally:
        with _step(console, "Cleaning up"):
            lab.down()


def _show(lab: Lab, console: Console) -> bool:
    steps = {step.say: step for step in scenarios.load_scenario("tenant").steps}
    isolate, allow = [step for step in steps.values() if step.apply][:2]
    with _step(console, "Which pods reach each other, before any policy"):
        before = _probe(lab, console, None)
    with _step(console, "Isolate tenant-a, and let the frontend reach the backend on port 80: pol1"):
        manifest = _yaml([*isolate.apply, *allow.apply])
        console.print(Syntax(manifest, "yaml", background_color="default"))
        began = time.monotonic()
        lab.apply(manifest)
        console.print(f"  realized on every switch after {time.monotonic() - began:.1f} s")
    with _step(console, "Which pods reach each other now (changes are marked)"):
        after = _probe(lab, console, before)
    with _step(console, "The policy's flows, on the backend's switch"):
        _show_flows(lab, console)
    with _step(console, "A running connection, denied and allowed again"):
        good = _deny_and_allow_connection(lab, console, _yaml(allow.apply))
    expected = {(DEMO_SOURCE, DEMO_TARGET, DEMO_PORT)}
    through = {(p.source, p.destination, p.port) for p, o in after.results.items() if o.reachable}
    into = {entry for entry in through if entry[1].startswith("tenant-a/") and entry[0] != entry[1]}
    return good and into == expected and all(outcome.reachable for outcome in before.results.values())


def _yaml(objects: Iterable[Mapping[str, object]]) -> str:
    import yaml

    text: str = yaml.safe_dump_all(objects, sort_keys=False)
    return text


@contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    console.print()
    console.rule(f"[bold]{title}", align="left")
    yield


def _probe(lab: Lab, console: Console, before: Matrix | None) -> Matrix:
    matrix = lab.probe()
    print_matrix(matrix, console, before)
    console.print(outcome_summary(matrix.count()))
    return matrix


def _show_flows(lab: Lab, console: Console) -> None:
    node = next(pod.node for pod in lab.topology.pods if pod.key == DEMO_TARGET)
    done = lab.product.call(["flows", "--node", node, "--policy", "tenant-a/pol1", "-o", "json"])
    if done.returncode != 0:
        raise LabError(f"headgate flows: {done.stderr.strip()}")
    table = Table(show_header=True, header_style="bold", box=None)
    for column in ("table", "match", "actions", "packets"):
        table.add_column(column, overflow="fold", justify="right" if column == "packets" else "left")
    for flow in json.loads(done.stdout)["flows"]:
        table.add_row(flow["table_name"], flow["match"] or "any", flow["actions"], str(flow["packets"]))
    console.print(table)
    console.print(
        f"  [dim]headgate flows --node {node} --policy tenant-a/pol1[/dim]; a flow for each member, and one that allows"
    )


def _deny_and_allow_connection(lab: Lab, console: Console, policy: str) -> bool:
    stream = DemoConnection(lab, DEMO_SOURCE, DEMO_TARGET, DEMO_PORT)
    try:
        good = _check(console, f"{EXCHANGES} lines are sent and echoed", lambda: _all(stream))
        lab.delete(policy)
        good &= _check(console, "pol1 is deleted: the same connection gets no answer", lambda: not stream.exchange())
        lab.apply(policy)
        good &= _check(console, "pol1 is back: the connection continues", lambda: stream.resumed(20))
        return good
    finally:
        stream.close()


def _all(stream: DemoConnection) -> bool:
    return all(stream.exchange() for _ in range(EXCHANGES))


def _check(console: Console, what: str, happened: Callable[[], bool]) -> bool:
    good = happened()
    console.print(f"  [green]✓[/green] {what}" if good else f"  [bold red]✗[/bold red] failed: {what}")
    return good
