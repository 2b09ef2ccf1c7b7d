"""What Headgate writes to a bridge it owns, that it writes nothing twice, and that the operator's own stays."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest

from controller.metrics.series import SWITCH_AWAY
from controller.ovsdb.bridge_settings import INACTIVITY_PROBE, ControllerRow
from controller.reconcile.events import MarksWritten
from controller.status import away_reasons
from tests.helpers.ovs.node import EventCollector, Node, ovsdb_service
from tests.helpers.waiting import free_port, until

pytestmark = pytest.mark.switch


TABLES = {0: "classify", 10: "neighbor", 90: "deny"}
LISTEN = ("127.0.0.1", 6653)
OURS = "tcp:127.0.0.1:6653"


def settled(node: Node, core: EventCollector, **settings: object) -> int:
    """Run until all is written; returns the count of transactions at the end."""
    given = {"tables": TABLES, "openflow": LISTEN, **settings}
    with ovsdb_service(core, [node.remote], **given) as ovsdb:
        until(core.synced)
        until(lambda: node.get("Bridge", "br-int", "fail_mode") == "secure" and controllers(node), "set-up")
        assert ovsdb.barrier(10) == []
    return node.transactions()


def controllers(node: Node, bridge: str = "br-int") -> dict[str, str]:
    """The bridge's Controllers: target -> external_ids."""
    found = {}
    for uuid in node.get("Bridge", bridge, "controller").strip("[]").split(", "):
        if uuid:
            found[node.get("Controller", uuid, "target")] = node.get("Controller", uuid, "external_ids")
    return found


def add_controller(node: Node, target: str, *settings: str) -> None:
    node.vsctl("--", "--id=@c", "create", "Controller", f'target="{target}"', *settings, "--",
               "add", "Bridge", "br-int", "controller", "@c")  # fmt: skip


def test_a_new_bridge_is_set_up_and_a_restart_writes_nothing(node: Node, core: EventCollector) -> None:
    node.add_bridge("br-other")
    count = settled(node, core)
    assert controllers(node) == {OURS: "{headgate=true}"}
    uuid = node.get("Bridge", "br-int", "controller").strip("[]")
    assert node.get("Controller", uuid, "connection_mode") == "out-of-band"
    assert node.get("Controller", uuid, "inactivity_probe") == "[]"
    assert node.get("Bridge", "br-int", "protocols") == "[]"
    assert node.get("Bridge", "br-other", "fail_mode") == "[]"
    assert node.get("Bridge", "br-other", "flow_tables") == "{}"
    assert controllers(node, "br-other") == {}
    again = EventCollector()
    with ovsdb_service(again, [node.remote], tables=TABLES, openflow=LISTEN) as ovsdb:
        until(again.synced)
        for _ in range(5):
            assert ovsdb.barrier(10) == []
    assert node.transactions() == count


def test_a_connected_controller_gets_its_probe(node: Node, core: EventCollector) -> None:
    """Not before: Open vSwitch keeps to a value only when it changes during a session."""
    with ovsdb_service(core, [node.remote], tables=TABLES, openflow=LISTEN):
        until(lambda: OURS in controllers(node), "set-up")
        uuid = node.get("Bridge", "br-int", "controller").strip("[]")
        assert node.get("Controller", uuid, "inactivity_probe") == "[]"
        node.vsctl("set", "Controller", uuid, "is_connected=true")
        until(lambda: node.get("Controller", uuid, "inactivity_probe") == str(INACTIVITY_PROBE), "probe")


def test_one_transaction_for_all(node: Node, core: EventCollector) -> None:
    assert settled(node, core) == 1


def test_table_names_are_read_by_ovs_ofctl(node: Node, core: EventCollector) -> None:
    settled(node, core)
    node.ofctl("add-flow", node.management(), "table=10,priority=5,actions=resubmit(,90)")
    dump = node.ofctl("--names", "-OOpenFlow14", "dump-flows", node.management())
    assert "table=neighbor" in dump
    assert "resubmit(,deny)" in dump


def test_an_operators_flow_tables_keep_their_columns(node: Node, core: EventCollector) -> None:
    node.vsctl("--", "--id=@a", "create", "Flow_Table", "name=mine", "flow_limit=5000", "--",
               "--id=@b", "create", "Flow_Table", "name=far", "--",
               "set", "Bridge", "br-int", "flow_tables:0=@a", "flow_tables:77=@b")  # fmt: skip
    settled(node, core)
    assert node.get("Flow_Table", "classify", "flow_limit") == "5000"
    assert node.get("Flow_Table", "far", "flow_limit") == "[]"
    assert node.get("Bridge", "br-int", "flow_tables").count("=") == 4


def test_a_flow_table_shared_with_another_bridge_keeps_its_name(node: Node, core: EventCollector) -> None:
    node.add_bridge("br-other")
    node.vsctl("--", "--id=@a", "create", "Flow_Table", "name=common", "--",
               "set", "Bridge", "br-int", "flow_tables:0=@a", "--",
               "set", "Bridge", "br-other", "flow_tables:0=@a")  # fmt: skip
    settled(node, core)
    assert node.get("Flow_Table", "common", "name") == "common"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("OpenFlow10,OpenFlow13", "[OpenFlow10, OpenFlow13, OpenFlow14]"),
        ("OpenFlow14,OpenFlow15", "[OpenFlow14, OpenFlow15]"),
    ],
)
def test_protocols_are_widened_only(node: Node, core: EventCollector, before: str, after: str) -> None:
    node.vsctl("set", "Bridge", "br-int", f"protocols={before}")
    settled(node, core)
    assert node.get("Bridge", "br-int", "protocols") == after


def test_what_someone_undoes_is_set_again(node: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [node.remote], tables=TABLES, openflow=LISTEN):
        until(lambda: controllers(node))
        node.vsctl("set-fail-mode", "br-int", "standalone", "--", "del-controller", "br-int")
        until(lambda: node.get("Bridge", "br-int", "fail_mode") == "secure" and controllers(node))
        node.vsctl("del-br", "br-int")
        node.add_bridge()
        until(lambda: node.get("Bridge", "br-int", "fail_mode") == "secure" and controllers(node))


def test_an_operators_controller_that_leads_here_suffices(node: Node, core: EventCollector) -> None:
    node.vsctl("set-controller", "br-int", OURS)
    settled(node, core)
    assert controllers(node) == {OURS: "{}"}


def test_an_operators_controller_that_turns_out_to_lead_here_suffices(node: Node, core: EventCollector) -> None:
    add_controller(node, "tcp:192.0.2.1:6653", "max_backoff=1000")
    dpid = int(node.get("Bridge", "br-int", "datapath_id"), 16)
    asked, sessions = [], [0]

    def connected(one: int) -> int:
        asked.append(one)
        return sessions[0]

    settings = {"tables": TABLES, "openflow": LISTEN, "connected": connected, "grace": 2.0}
    with ovsdb_service(core, [node.remote], **settings) as ovsdb:
        until(lambda: node.get("Bridge", "br-int", "fail_mode") == "secure")
        sessions[0] = 1
        for number in range(5):
            node.vsctl("set", "Open_vSwitch", ".", f"external_ids:turn={number}")
            assert ovsdb.barrier(10) == []
            time.sleep(0.7)
        assert set(asked) == {dpid}
        assert list(controllers(node)) == ["tcp:192.0.2.1:6653"]
        sessions[0] = 0  # and when the switch stays away, nothing is believed for good
        until(lambda: OURS in controllers(node))


@pytest.mark.parametrize("session", [1, 0], ids=["dying session", "no session"])
def test_a_session_that_ends_with_the_old_controller_proves_nothing_of_the_new(
    node: Node, core: EventCollector, session: int
) -> None:
    node.vsctl("set-controller", "br-int", OURS)
    sessions = [1]
    settings = {"tables": TABLES, "openflow": LISTEN, "connected": lambda _: sessions[0], "grace": 1.0}
    with ovsdb_service(core, [node.remote], **settings):
        until(core.synced)
        sessions[0] = session
        node.vsctl("set-controller", "br-int", "tcp:127.0.0.1:1", "--", "set", "controller", "br-int",
                   "max_backoff=60000")  # fmt: skip
        time.sleep(0.5)
        sessions[0] = 0
        # The switch says that it has tried in vain, so its backoff of a minute need not be waited for.
        began = time.monotonic()
        until(lambda: OURS in controllers(node))
        assert time.monotonic() - began < 20


def test_a_switch_that_does_not_call_says_why_and_what_mends_it(node: Node, core: EventCollector) -> None:
    port = free_port()
    with ovsdb_service(core, [node.remote], tables=TABLES, openflow=("127.0.0.1", port), grace=60.0) as ovsdb:
        until(lambda: any("Connection refused" in note for note in ovsdb.status()[0].notes))
        (note,) = ovsdb.status()[0].notes
        assert f"tcp:127.0.0.1:{port} (Connection refused)" in note
        assert f"ovs-vsctl set-controller br-int tcp:127.0.0.1:{port}" in note
        until(lambda: ovsdb.away() == {(node.remote, "br-int"): away_reasons.REFUSED})
        # The operator's way leads to somebody else, as far as can be told while Headgate waits for it.
        node.vsctl("set-controller", "br-int", "tcp:127.0.0.1:1", "--", "set", "controller", "br-int",
                   "max_backoff=60000")  # fmt: skip
        until(lambda: ovsdb.away() == {(node.remote, "br-int"): away_reasons.ELSEWHERE})


def test_why_a_switch_is_away_is_one_of_a_few_words_whatever_the_database_says() -> None:
    def ours(target: str) -> bool:
        return target == OURS

    rows = ControllerRow("1", "tcp:192.0.2.1:6653"), ControllerRow("2", OURS)
    words = {"": "waiting", "Connection refused": "refused", "No route to host": "unreachable", "End of file": "closed"}
    words |= {"Protocol error": "protocol", 'evil"\x1b[2J': "failed", "Connection refused ": "failed"}
    for error, word in words.items():
        assert away_reasons.reason_of_controllers(rows, ours, {"2": error, "1": "No route to host"}.__getitem__) == word
        assert word in away_reasons.REASONS
    assert away_reasons.reason_of_controllers(rows[:1], ours, lambda _: "Connection refused") == away_reasons.ELSEWHERE
    assert away_reasons.reason_of_controllers((), ours, lambda _: "Connection refused") == away_reasons.NO_CONTROLLER
    assert all(word in SWITCH_AWAY.help for word in away_reasons.REASONS)


def test_two_headgates_on_one_bridge_do_not_fight(node: Node, core: EventCollector) -> None:
    other, theirs = EventCollector(), ("127.0.0.1", 6700)
    with ovsdb_service(core, [node.remote], tables=TABLES, openflow=LISTEN) as first:
        until(core.synced)
        until(lambda: list(controllers(node)) == [OURS])
        with ovsdb_service(other, [node.remote], tables=TABLES, openflow=theirs) as second:
            until(second.rivals)
            (line,) = second.rivals()
            assert f"another Headgate at {OURS} writes this bridge" in line
            assert [line for line in second.barrier(5) if "another Headgate" in line]
            assert not other.bridges
            count = node.transactions()
            time.sleep(3)
            assert node.transactions() == count
            assert first.rivals() == []
            assert list(controllers(node)) == [OURS]
            first.close()
            until(lambda: list(controllers(node)) == ["tcp:127.0.0.1:6700"])
            assert second.rivals() == []


def test_a_headgate_that_takes_no_lock_is_recognised_by_its_controller(core: EventCollector) -> None:
    """As versions before this one: the switch follows a Controller row with our mark that leads to somebody else."""
    node = Node(switch=False)
    try:
        node.vsctl("add-br", "br-int")
        target = "tcp:127.0.0.1:6700"
        add_controller(node, target, "external_ids:headgate=true", "is_connected=true")
        with ovsdb_service(core, [node.remote], tables=TABLES, openflow=LISTEN) as ovsdb:
            until(lambda: any("another Headgate at" in note for note in ovsdb.status()[0].notes))
            assert list(controllers(node)) == [target]
    finally:
        node.stop()


def test_ours_is_added_beside_an_operators_that_leads_elsewhere(node: Node, core: EventCollector) -> None:
    add_controller(node, "tcp:127.0.0.1:1", "max_backoff=1000", "external_ids:owner=me")
    settings = {"tables": TABLES, "openflow": LISTEN, "grace": 0.0}
    with ovsdb_service(core, [node.remote], **settings) as ovsdb:
        until(lambda: len(controllers(node)) == 2)
        assert controllers(node) == {"tcp:127.0.0.1:1": "{owner=me}", OURS: "{headgate=true}"}
        (note,) = (one for one in ovsdb.status()[0].notes if "in-band" in one)
        assert "tcp:127.0.0.1:1" in note  # in-band, OVS's default: its hidden flows pass by the pipeline
        # The operator's now leads here: ours goes.
        node.vsctl("set", "Controller", node.get("Bridge", "br-int", "controller").strip("[]").split(", ")[0],
                   "external_ids:seen=1")  # fmt: skip
        node.vsctl("set-controller", "br-int", OURS)
        until(lambda: controllers(node) == {OURS: "{}"})


def test_a_changed_listener_changes_only_our_own_row(node: Node, core: EventCollector) -> None:
    settled(node, core)
    add_controller(node, "tcp:127.0.0.1:1", "max_backoff=1000")
    with ovsdb_service(EventCollector(), [node.remote], tables=TABLES, openflow=("127.0.0.1", 6700)):
        until(lambda: controllers(node) == {"tcp:127.0.0.1:6700": "{headgate=true}", "tcp:127.0.0.1:1": "{}"})


@pytest.mark.parametrize(
    ("way", "host", "target"),
    [("unix", "0.0.0.0", OURS), ("tcp", "0.0.0.0", OURS), ("unix", "::", "tcp:[::1]:6653"), ("tcp", "::", OURS)],
)
def test_a_wildcard_listener_is_reached_by_the_address_of_the_connection(
    node: Node, core: EventCollector, way: str, host: str, target: str
) -> None:
    remote = node.remote if way == "unix" else node.tcp
    with ovsdb_service(core, [remote], tables=TABLES, openflow=(host, 6653)):
        until(lambda: list(controllers(node)) == [target])


@pytest.fixture
def port(node: Node) -> Iterator[str]:
    yield node.add_port("p1", "external_ids:iface-id=a/b")


def written(core: EventCollector) -> list[Mapping[str, bool]]:
    core.take()
    return [event.interfaces for event in core.events if isinstance(event, MarksWritten)]


def test_installed_flags(node: Node, core: EventCollector, port: str) -> None:
    other = node.add_port("p2")
    with ovsdb_service(core, [node.remote], tables=TABLES, openflow=LISTEN) as ovsdb:
        until(lambda: core.ofport("p1") and core.ofport("p2"))
        ovsdb.write_marks(node.remote, {port: True, other: False})
        until(lambda: written(core) == [{port: True, other: False}])
        assert node.get("Interface", "p1", "external_ids") == "{headgate-installed=true, iface-id=a/b}"
        assert core.interfaces()["p1"].external_ids["headgate-installed"] == "true"
        # Someone else's change in between is not undone by ours.
        node.vsctl("set", "Interface", "p1", "external_ids:iface-id=c/d")
        ovsdb.write_marks(node.remote, {port: False})
        until(lambda: len(written(core)) == 2)
        assert node.get("Interface", "p1", "external_ids") == "{iface-id=c/d}"
        # What stands already is acknowledged without a transaction.
        assert ovsdb.barrier(10) == []
        count = node.transactions()
        ovsdb.write_marks(node.remote, {port: False})
        until(lambda: len(written(core)) == 3)
        assert node.transactions() == count
        # An odd value becomes ours; what is gone, or no uuid at all, is left out.
        node.vsctl("set", "Interface", "p1", "external_ids:headgate-installed=maybe")
        gone = "00000000-0000-0000-0000-000000000001"
        ovsdb.write_marks(node.remote, {port: True, gone: True, "nonsense": True})
        until(lambda: written(core)[3:] == [{port: True}])
        assert node.get("Interface", "p1", "external_ids:headgate-installed") == "true"
        ovsdb.write_marks("unix:/nowhere", {port: True})


def test_installed_flags_are_kept_while_the_database_is_away(node: Node, core: EventCollector, port: str) -> None:
    with ovsdb_service(core, [node.remote], tables=TABLES, openflow=LISTEN) as ovsdb:
        until(lambda: core.ofport("p1"))
        node.kill_database()
        until(lambda: not core.synced())
        ovsdb.write_marks(node.remote, {port: True})
        node.start_database()
        until(lambda: written(core) == [{port: True}])
        assert node.get("Interface", "p1", "external_ids:headgate-installed") == "true"


@pytest.mark.parametrize(
    ("change", "flows_stay"),
    [
        (("set-fail-mode", "br-int", "standalone"), False),
        (("set-controller", "br-int", "tcp:127.0.0.1:1"), False),
        (("set", "Bridge", "br-int", "protocols=OpenFlow10,OpenFlow14"), True),
        (
            ("--", "--id=@t", "create", "Flow_Table", "name=x", "--", "set", "Bridge", "br-int", "flow_tables:3=@t"),
            True,
        ),
    ],
)
def test_which_settings_make_the_switch_forget_its_flows(node: Node, change: tuple[str, ...], flows_stay: bool) -> None:
    """Facts about OVS 3.1 that the order of our writes rests on: first the settings, then the flows."""
    node.vsctl("set-fail-mode", "br-int", "secure")
    node.ofctl("add-flow", node.management(), "table=10,actions=drop")
    node.vsctl(*change)
    dump = node.ofctl("-OOpenFlow14", "dump-flows", node.management(), "table=10")
    assert ("actions=drop" in dump) is flows_stay


def test_further_controllers_do_not_make_the_switch_forget_its_flows(node: Node, core: EventCollector) -> None:
    node.vsctl("set-fail-mode", "br-int", "secure")
    add_controller(node, f"tcp:127.0.0.1:{free_port()}", "max_backoff=1000")
    node.ofctl("add-flow", node.management(), "table=10,actions=drop")
    with ovsdb_service(core, [node.remote], tables=TABLES, openflow=LISTEN, grace=0.0):
        until(lambda: len(controllers(node)) == 2)
    settled(node, EventCollector(), openflow=("127.0.0.1", 6701))
    until(lambda: "tcp:127.0.0.1:6701" in controllers(node))
    assert "actions=drop" in node.ofctl("-OOpenFlow14", "dump-flows", node.management(), "table=10")
