"""Lasting traffic is counted truly: nothing lost where all is open, nothing arriving where all is closed."""

from __future__ import annotations

import socket
import time

import pytest

from tests.topology.conftest import MakeLab, close_switches, open_switches
from topology.errors import LabError
from topology.probe.matrix import LabProbe
from topology.probe.traffic import Arrival, arrival_of

WAYS = [LabProbe("x/a", "x/b", protocol, 80, family) for protocol in ("TCP", "UDP") for family in (4, 6)]


@pytest.mark.lab
def test_traffic_and_capture_agree(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.up(controller=False)
    open_switches(lab)
    with lab.capture("x/b") as capture, lab.traffic(WAYS) as traffic:
        while any(flow.answered < 20 for flow in traffic.flows):
            time.sleep(0.01)
        traffic.drain()
        assert [flow.lost for flow in traffic.flows] == [0, 0, 0, 0]
        sent = sum(flow.sent for flow in traffic.flows if flow.probe.protocol == "UDP")
        assert capture.count(lab.endpoints["x/a"], socket.IPPROTO_UDP, 80) == sent
        close_switches(lab)
        time.sleep(0.1)
        before = traffic.counts(), capture.arrived.copy()
        traffic.resume()
        while any(flow.sent < before[0][flow.probe][0] + 20 for flow in traffic.flows):
            time.sleep(0.01)
        traffic.drain(0.2)
        assert capture.arrived == before[1]
        assert {probe: answered for probe, (_, answered) in traffic.counts().items()} == {
            probe: answered for probe, (_, answered) in before[0].items()
        }


@pytest.mark.lab
def test_what_cannot_connect_says_so(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.up(controller=False)
    open_switches(lab)
    with pytest.raises(LabError, match="x/a -> x/b TCP 7 IPv4: cannot connect"):
        lab.traffic([LabProbe("x/a", "x/b", "TCP", 7, 4)])
    with pytest.raises(LabError, match="TCP or UDP"):
        lab.traffic([LabProbe("x/a", "x/b", "SCTP", 80, 4)])


def test_arrivals_are_read_from_packets() -> None:
    ports = bytes([0, 9, 0, 80])
    four = bytes([0x45]) + bytes(8) + bytes([17]) + bytes(2) + bytes([10, 0, 0, 1]) + bytes(4) + ports
    assert arrival_of(4, four) == Arrival("10.0.0.1", 17, 80)
    assert arrival_of(4, four[:6] + b"\x00\x01" + four[8:]) is None
    six = bytes([0x60]) + bytes(5) + bytes([58]) + bytes(1) + bytes(15) + b"\x01" + bytes(16) + ports
    assert arrival_of(6, six) == Arrival("::1", 58, 0)
    assert arrival_of(0, four) is None
