"""The stream of what changes: server-sent events, with the deltas of the state by serial, and what counts.

A stream ends by itself after STREAM_SECONDS, before the server's bound for one response: the page then asks for the
next one, after the last serial that it has. So a reader that is slow or gone holds a place for a bounded time. A
heartbeat finds readers that are gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from pydantic import TypeAdapter

from controller.status.page_model import PageApi, PageDelta, PageRates

STREAM_SECONDS = 45.0
WAIT_SECONDS = 2.0  # between two events that something counts
DELTA_JSON = TypeAdapter(PageDelta)
RATES_JSON = TypeAdapter(PageRates)


def event_stream(api: PageApi, after: int, node: str | None) -> Iterator[bytes]:
    """The events after a serial. `node` is whose switch is to be counted; "" is none, and None no counts at all."""
    deadline = time.monotonic() + STREAM_SECONDS
    yield b": headgate\n\n"
    last_rates = b""
    while (left := deadline - time.monotonic()) > 0:
        found = api.changes(after, min(WAIT_SECONDS, left))
        if found.reset:
            yield event("reset", b"{}")
            return
        for delta in found.deltas:
            after = delta.serial
            yield event("delta", DELTA_JSON.dump_json(delta), after)
        sent = bool(found.deltas)
        if node is not None:
            rates = RATES_JSON.dump_json(api.rates(node))
            if rates != last_rates:
                last_rates = rates
                yield event("rates", rates)
                sent = True
        if not sent:
            yield b": still there\n\n"


def event(name: str, data: bytes, number: int | None = None) -> bytes:
    """One event. JSON has no line breaks."""
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {name}\ndata: ".encode() + data + b"\n\n"
