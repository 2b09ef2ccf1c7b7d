"""Flooding of ARP and neighbor discovery: ports in chunks, one flow for each chunk, and one flow that calls the chunks.

Example: of ports 5 and 70, the first is in chunk 1 and the second in chunk 2 (`flood_chunk`). The flow that calls them
loads 1 into FLOOD_CHUNK and resubmits, then 2, then sends to LOCAL and the uplink.
"""

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
    """All flows of table `flood`. Pods without addresses get nothing."""
    chunks: dict[int, list[int]] = {}
    for pod in binding.pods:
        if pod.addresses:
            chunks.setdefault(flood_chunk(pod.ofport), []).append(pod.ofport)
    for chunk, ports in chunks.items():
        render_flood_chunk(flows, chunk, ports)
    render_flood_to_all(flows, chunks, binding.uplink)


def flood_chunk(ofport: int) -> int:
    """The chunk of a port, from 1: FLOOD_CHUNK is 0 until the calling flow sets it."""
    return ofport // PORTS_PER_FLOOD_CHUNK + 1


def render_flood_chunk(flows: FlowSet, chunk: int, ports: Iterable[int]) -> None:
    """The flow of one chunk, which sends to these ports (at least one). OVS sends no packet back to its own port."""
    flows.add(
        tables.FLOOD,
        priorities.FLOOD_CHUNK_PORTS,
        [in_range(FLOOD_CHUNK, chunk)],
        [Output(port) for port in sorted(ports)],
    )


def render_flood_to_all(flows: FlowSet, chunks: Iterable[int], uplink: int | None) -> None:
    """The flow that calls the chunks one after the other. It depends only on the set of chunks and the uplink."""
    actions: list[Action] = []
    for chunk in sorted(chunks):
        actions += [Load(FLOOD_CHUNK, chunk), Resubmit(tables.FLOOD.number)]
    actions += [Output(LOCAL_32), *([Output(uplink)] if uplink is not None else [])]
    flows.add(tables.FLOOD, priorities.MISS, [], actions)
