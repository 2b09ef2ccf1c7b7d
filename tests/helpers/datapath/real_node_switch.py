"""A node's switch that is a real ovs-vswitchd of its own, for `two_nodes`."""

from __future__ import annotations

from collections.abc import Sequence

from flows.bridge.state import InterfaceState
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import Packet
from flows.openflow import match_fields as oxm
from flows.openflow.flow import Flow
from flows.openflow.group import Group
from flows.openflow.port_numbers import LOCAL_32
from tests.helpers.ovs.open_vswitch import OpenVSwitch


class RealNodeSwitch:
    """A bridge with dummy ports for the given interfaces; the one that is called like the bridge is its LOCAL port."""

    def __init__(self, ovs: OpenVSwitch, interfaces: Sequence[InterfaceState], bridge: str = "br-int") -> None:
        self.frames = 0
        self._ovs = ovs
        self._bridge = ovs.add_bridge(bridge)
        self._names = {one.ofport or 0: one.name for one in interfaces if one.name != bridge}
        self._bridge.add_ports({name: number for number, name in self._names.items()})
        self._names[LOCAL_32] = bridge
        self._numbers = {name: number for number, name in self._names.items()}
        self._sent: dict[bytes, Packet] = {}

    def replace_flows(self, flows: Sequence[Flow], groups: Sequence[Group] = ()) -> None:
        """Install the difference; learned flows stay. Groups are not for this switch."""
        assert not groups
        self._bridge.install(flows)

    def send(self, in_port: int, packet: Packet) -> list[tuple[int, Packet]]:
        """Let a packet arrive. What comes out must be a frame that once went in, for our flows change no packet."""
        if packet.proto == oxm.IP_PROTO_SCTP:
            self._bridge.settle()  # the switch may have learned of this association just now
        frame = encode(packet)
        self._sent[frame] = packet
        self.frames += 1
        out = self._bridge.inject(self._names[in_port], frame)
        return [(self._numbers[name], self._sent[one]) for name, frames in out.items() for one in frames]

    def forget_connections(self) -> None:
        """Flush connection tracking."""
        self._ovs.appctl("dpctl/flush-conntrack")
