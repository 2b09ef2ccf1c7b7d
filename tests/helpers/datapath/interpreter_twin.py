"""A bridge of the real switch with an interpreter beside it: both get the same flows and packets, and must agree.

What they are asked stands in the tests.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from flows.interpret.flow_lookup import Ambiguous
from flows.interpret.frame_encoder import encode
from flows.interpret.interpreter import Interpreter, Result
from flows.interpret.packet import Packet
from flows.openflow.flow import Flow
from flows.openflow.group import Group
from flows.openflow.port_numbers import LOCAL_32
from flows.wire.text import format_flow, format_group
from tests.helpers.ovs.open_vswitch import Bridge, OpenVSwitch

PORTS = (1, 2, 3, 4)
ANY_TABLE = range(255)


def _the_only_one(complete: list[int]) -> int:
    """Which of several complete conjunctions of one priority acts is the switch's choice."""
    if len(complete) > 1:
        raise Ambiguous(f"conjunctions {complete} are all complete")
    return complete[0]


class InterpreterTwin:
    """Ports 1 to 4 and LOCAL; every flow gets a cookie of its own, so that counters can be compared too."""

    def __init__(
        self, switch: OpenVSwitch, flows: Iterable[Flow], name: str = "br0", groups: Iterable[Group] = ()
    ) -> None:
        self.names = {number: f"{name}p{number}" for number in PORTS}
        self.bridge: Bridge = switch.bridges[name] if name in switch.bridges else switch.add_bridge(name)
        if len(self.bridge.captures) == 1:
            self.bridge.add_ports({port: number for number, port in self.names.items()})
        self.names[LOCAL_32] = name
        switch.appctl("dpctl/flush-conntrack")
        numbered = [replace(flow, cookie=number) for number, flow in enumerate(flows, 1)]
        self.hits: Counter[int] = Counter()
        groups = list(groups)
        self.interpreter = Interpreter(
            numbered, tables=ANY_TABLE, ports=self.names, choose=_the_only_one, groups=groups
        )
        # What the datapath counted for earlier flows and did not report yet would count for these, by a new look-up.
        self.bridge.settle()
        self.bridge.clear()
        switch.ofctl("del-groups", self.bridge.target)
        for group in groups:
            switch.ofctl("add-group", self.bridge.target, format_group(group))
        self.bridge.install(numbered)

    def send(self, in_port: int, packet: Packet) -> Result:
        """Let a packet arrive at both; raises AssertionError unless the same frames come out of the same ports."""
        learned = self._learned()
        result = self.interpreter.receive(in_port, packet)
        self.hits.update(flow.cookie for _, flow in result.hits if flow is not None)
        expected: dict[str, list[bytes]] = defaultdict(list)
        for port, frame in result.outputs:
            expected[self.names[port]].append(encode(frame))
        real = self.bridge.inject(self.names[in_port], encode(packet))
        if {name: sorted(frames) for name, frames in real.items()} != {n: sorted(f) for n, f in expected.items()}:
            ports = {name: len(frames) for name, frames in real.items()}
            trace = self.bridge.trace(in_port, encode(packet))
            hits = "\n".join(format_flow(flow) for _, flow in result.hits if flow is not None)
            expected_ports = {name: len(frames) for name, frames in expected.items()}
            raise AssertionError(f"{packet}\nswitch: {ports}\ninterpreter: {expected_ports}\n{hits}\n{trace}")
        if self._learned() != learned:
            self.bridge.settle()
        return result

    def _learned(self) -> int:
        return sum(map(len, self.interpreter.learned.values()))

    def check_counters(self) -> None:
        """Raise AssertionError unless each flow acted on as many packets here as there."""
        real = self.bridge.packet_counts()
        wrong = {c: (real.get(c, 0), self.hits[c]) for c in {*real, *self.hits} if real.get(c, 0) != self.hits[c]}
        if wrong:
            raise AssertionError(f"packets by cookie, on the switch and in the interpreter: {wrong}")
