"""The example in the documentation of `flows.wire.codec` is what the codec writes."""

from __future__ import annotations

import re

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Output
from flows.openflow.flow import Flow
from flows.openflow.match import exactly, match
from flows.wire import codec


def test_the_bytes_of_the_example() -> None:
    terms = match(exactly(oxm.ETH_TYPE, oxm.ETH_ARP), exactly(oxm.ARP_TPA, 0x0A000005))
    encoded = codec.encode_flow(Flow(10, 200, terms, (Output(5),)))
    lines = re.findall(r"^    ((?:[0-9a-f]+ )+) *\S", codec.__doc__ or "", re.MULTILINE)
    assert bytes.fromhex("".join(lines)) == encoded.key + encoded.instructions
