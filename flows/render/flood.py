"""ARP and neighbor discovery that concern everybody: ports in chunks, and the flow that calls all chunks."""

from __future__ import annotations

from collections.abc import Iterable

from flows.bridge.state import Binding
from flows.openflow.actions import Action, Load, Output, Resubmit
from flows.openflow.match import in_range
from flows.openflow.port_numbers import LOCAL_32
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    FLOOD_CHUNK,
    PORTS_PER_FLOOD_CHUNK,
)
from flows.render.flow_set import FlowSet


def render_flood(flows: FlowSet, binding: Binding) -> None:
    """ARP and neighbor discovery that concern everybody: the ports in chunks, and the flow that calls them all."""
    chunks: dict[int, list[int]] = {}
    for pod in binding.pods:
        if pod.addresses:
            chunks.setdefault(flood_chunk(pod.ofport), []).append(pod.ofport)
    for chunk, ports in chunks.items():
        render_flood_chunk(flows, chunk, ports)
    render_flood_to_all(flows, chunks, binding.uplink)


def flood_chunk(ofport: int) -> int:
    """The chunk of the flood that a port is in, from 1: a packet that nobody called for a chunk has 0."""
    return ofport // PORTS_PER_FLOOD_CHUNK + 1


def render_flood_chunk(flows: FlowSet, chunk: int, ports: Iterable[int]) -> None:
    """One chunk of the flood: to these ports, of which there is at least one. Back to where it came from OVS sends
    nothing."""
    flows.add(
        tables.FLOOD,
        priorities.FLOOD_CHUNK_PORTS,
        [in_range(FLOOD_CHUNK, chunk)],
        [Output(port) for port in sorted(ports)],
    )


def render_flood_to_all(flows: FlowSet, chunks: Iterable[int], uplink: int | None) -> None:
    """The flow that calls the chunks one after the other. It changes only with the set of chunks, and the uplink."""
    actions: list[Action] = []
    for chunk in sorted(chunks):
        actions += [Load(FLOOD_CHUNK, chunk), Resubmit(tables.FLOOD.number)]
    actions += [Output(LOCAL_32), *([Output(uplink)] if uplink is not None else [])]
    flows.add(tables.FLOOD, priorities.MISS, [], actions)
