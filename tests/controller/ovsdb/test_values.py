"""The parts that are pure: remotes, message framing, and the plan of settings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.config.addresses import canonical_address
from controller.ovsdb import bridge_settings
from controller.ovsdb.bridge_settings import BridgeSettings, ControllerRow, FlowTableRow
from controller.ovsdb.json_stream import JsonStreamError, MessageSplitter
from controller.ovsdb.targets import absolute_remote, controller_target, is_this_controller
from controller.peers.limits import OvsdbLimits


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("unix:/run/db.sock", "unix:/run/db.sock"),
        ("unix:db.sock", "unix:/somewhere/db.sock"),
        ("tcp:10.0.0.1:6641", "tcp:10.0.0.1:6641"),
        ("tcp:10.0.0.1", "tcp:10.0.0.1:6640"),
        ("tcp:host.example:6640", "tcp:host.example:6640"),
        ("tcp:[fd00::1]:6641", "tcp:[fd00::1]:6641"),
        ("tcp:[fd00::1]", "tcp:[fd00::1]:6640"),
        ("ssl:10.0.0.1", "ssl:10.0.0.1:6640"),
    ],
)
def test_remotes(monkeypatch: pytest.MonkeyPatch, text: str, name: str) -> None:
    monkeypatch.setenv("OVS_RUNDIR", "/somewhere")
    assert absolute_remote(text) == name


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "tcp:", "tcp:a:b", "tcp:fd00::1:6640", "tcp:[::1", "tcp:[::1]x", "tcp:h:0", "tcp:h:70000", "ssl:h:0",
     "ptcp:6640", "/run/db.sock"],
)  # fmt: skip
def test_remotes_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        absolute_remote(text)


def test_targets() -> None:
    assert controller_target(("10.0.0.9", 6653), "10.0.0.1") == "tcp:10.0.0.9:6653"
    assert controller_target(("0.0.0.0", 6653), "10.0.0.1") == "tcp:10.0.0.1:6653"
    assert controller_target(("::", 6653), "fd00::1") == "tcp:[fd00::1]:6653"
    assert controller_target(("0.0.0.0", 6653), "") == "tcp:127.0.0.1:6653"
    assert controller_target(("0.0.0.0", 6653), "10.0.0.1", "ssl") == "ssl:10.0.0.1:6653"
    assert canonical_address("::ffff:10.0.0.1") == "10.0.0.1"
    assert canonical_address("fe80::1%eth0") == "fe80::1"


def test_which_targets_lead_here() -> None:
    ours, listen = "tcp:127.0.0.1:6653", ("0.0.0.0", 6653)
    assert is_this_controller("tcp:127.0.0.1:6653", ours, listen)
    assert is_this_controller("tcp:127.0.0.1", ours, listen)
    assert is_this_controller("tcp:[FD00::0:1]:6653", "tcp:[fd00::1]:6653", ("fd00::1", 6653))
    assert is_this_controller("ssl:127.0.0.1:6653", ours.replace("tcp", "ssl"), listen)
    for other in ("tcp:192.0.2.1:6653", "tcp:127.0.0.1:6633", "ssl:127.0.0.1:6653", "ptcp:6653", "tcp:localhost:6653",
                  "tcp:", "tcp:[x]:1", "tcp:127.0.0.2:6653", "tcp:0.0.0.0:6653", "\udfff"):  # fmt: skip
        assert not is_this_controller(other, ours, listen), other


ATOMS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON = st.recursive(ATOMS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=6)
OBJECTS = st.lists(
    st.dictionaries(st.text(alphabet='"\\{}[]\u00e9\U0001f9eax', max_size=4), JSON, max_size=3), max_size=4
)


@given(OBJECTS, st.booleans(), st.integers(1, 9))
def test_messages_are_cut_wherever_the_reads_end(objects: list[Any], ascii_only: bool, size: int) -> None:
    stream = b" \n".join(json.dumps(one, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for one in objects)
    splitter, texts = MessageSplitter(), []
    for start in range(0, len(stream), size):
        texts.extend(splitter.feed(stream[start : start + size]))
    assert [json.loads(text.decode("utf-8", "surrogatepass")) for text in texts] == objects


def test_what_no_message_can_come_of() -> None:
    with pytest.raises(JsonStreamError):
        MessageSplitter().feed(b"}")
    with pytest.raises(JsonStreamError):
        MessageSplitter(OvsdbLimits(message_bytes=10)).feed(b'{"long": "long')


OURS = ControllerRow("o", "tcp:h:1", ours=True, probe=bridge_settings.INACTIVITY_PROBE)


def bridge(**changes: Any) -> BridgeSettings:
    standing = {"fail_mode": "secure", "tables": {0: FlowTableRow("t0", "classify")}}
    return BridgeSettings(uuid="b", name="br-int", **{**standing, **changes})


def controllers(*rows: ControllerRow, add: bool = False) -> list[str]:
    """What plan_controller does, in short."""
    plan = bridge_settings.plan_controller(bridge(controllers=rows), "tcp:h:1", lambda text: text == "tcp:h:1", add)
    return [f"{one['op']} {one['table']}" for one in plan]


def test_nothing_to_plan() -> None:
    assert bridge_settings.plan_bridge(bridge(), {0: "classify"}) == []
    assert bridge_settings.plan_bridge(bridge(protocols=frozenset({"OpenFlow10", "OpenFlow14"})), {0: "classify"}) == []
    assert controllers(OURS) == []
    assert controllers(ControllerRow("x", "tcp:h:1")) == []
    assert controllers(ControllerRow("x", "tcp:else:1")) == []


def test_ways_to_us() -> None:
    new = ["insert Controller", "mutate Bridge"]
    assert controllers() == new
    assert controllers(ControllerRow("x", "tcp:else:1"), add=True) == new
    assert controllers(ControllerRow("o", "tcp:old:1", ours=True)) == ["update Controller"]
    assert controllers(ControllerRow("x", "tcp:h:1"), ControllerRow("o", "tcp:old:1", ours=True)) == ["mutate Bridge"]
    assert controllers(OURS, ControllerRow("p", "tcp:old:1", ours=True)) == ["mutate Bridge"]
    assert controllers(replace(OURS, probe=0, connected=True)) == ["update Controller"]
    assert controllers(replace(OURS, probe=0)) == []  # Open vSwitch would forget it at the next session


def test_patience() -> None:
    assert bridge_settings.controller_patience([]) == 0
    assert (
        bridge_settings.controller_patience([ControllerRow("x", "ptcp:6654"), ControllerRow("o", "tcp:h:1", ours=True)])
        == 0
    )
    assert bridge_settings.controller_patience([ControllerRow("x", "tcp:a:1", connected=True)], grace=3) == 3
    assert (
        bridge_settings.controller_patience([ControllerRow("x", "tcp:a:1")], grace=3) == 11
    )  # OVS tries again every 8 s at the latest


def test_hidden_flows_are_noted() -> None:
    theirs = ControllerRow("x", "tcp:192.0.2.1:6653")
    assert "tcp:192.0.2.1:6653" in bridge_settings.hidden_flows_note(bridge(controllers=(theirs,)))
    assert not bridge_settings.hidden_flows_note(bridge(controllers=(theirs,), in_band_disabled=True))
    assert not bridge_settings.hidden_flows_note(
        bridge(controllers=(ControllerRow("x", "tcp:192.0.2.1:6653", in_band=False),))
    )
    assert not bridge_settings.hidden_flows_note(bridge(controllers=(ControllerRow("x", "ptcp:6654"),)))
    assert "tcp:192.0.2.1:6640" in bridge_settings.hidden_flows_note(bridge(in_band_managers=("tcp:192.0.2.1:6640",)))
    assert not bridge_settings.hidden_flows_note(bridge(in_band_managers=("ptcp:6640",)))


@pytest.mark.parametrize(
    "names", [{0: "has space"}, {0: ""}, {0: "x" * 32}, {254: "x"}, {-1: "x"}, {0: "1"}, {0: "a", 1: "a"}]
)
def test_table_names_refused(names: dict[int, str]) -> None:
    with pytest.raises(ValueError, match="table"):
        bridge_settings.check_table_names(names)
