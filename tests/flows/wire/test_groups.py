"""Groups as bytes: both ways, and refused where they are not what Headgate writes."""

from __future__ import annotations

import pytest

from flows.openflow.actions import Ct, Load, Nat, NatKind, Output
from flows.openflow.group import Bucket, Group, NatTarget
from flows.pipeline import registers
from flows.pipeline.group_numbers import check_group, group_id, is_our_group, is_udp_group
from flows.pipeline.tables import CONNTRACK, FLOOD, PipelineError
from flows.plan.bridge_groups import BridgeGroups
from flows.wire.actions import encode_actions
from flows.wire.errors import CodecError, MessageTooLong
from flows.wire.groups import GroupDump, decode_group, encode_group, nat_targets
from flows.wire.values import WireGroup

NUMBER = group_id(5)


def group(*ports: int, version: int = 4) -> Group:
    nats = (Nat(NatKind.DESTINATION, version, 0x0A000001, port) for port in ports)
    return Group(NUMBER, tuple(Bucket((Ct(7, 30, True, nat=nat),), 2) for nat in nats))


def test_a_group_is_the_same_after_its_bytes() -> None:
    for one in (group(), group(80), group(80, 81, version=6)):
        assert decode_group(encode_group(one)) == one
    assert nat_targets(encode_group(group(80, 81))) == {NatTarget(7, 4, 0x0A000001, port) for port in (80, 81)}
    assert nat_targets(encode_group(Group(NUMBER, (Bucket((Output(1),)),)))) == set()


def test_bytes_that_are_cut_or_another_kind_are_refused() -> None:
    whole = encode_group(group(80)).body
    for wrong in (b"", b"\0" + whole[1:], whole[:-1], whole[:9], b"\1" + bytes(16)):
        with pytest.raises(CodecError):
            decode_group(WireGroup(NUMBER, wrong))
        assert nat_targets(WireGroup(NUMBER, wrong)) == set()


def test_a_group_that_no_message_holds_is_refused_with_its_size() -> None:
    with pytest.raises(MessageTooLong, match="the 1000 buckets"):
        encode_group(group(*range(1, 1001)))
    with pytest.raises(CodecError, match="weight 0"):
        encode_group(Group(NUMBER, (Bucket((), 0),)))


@pytest.mark.parametrize("length", [0, 7, 9, 200])
def test_a_dump_with_a_wrong_length_is_refused(length: int) -> None:
    entry = length.to_bytes(2, "big") + b"\1\0" + NUMBER.to_bytes(4, "big")
    with pytest.raises(CodecError):
        GroupDump().add(bytes(16) + entry + b"\0" * (length == 0))


def test_ids_tell_whose_a_group_is_and_whether_it_is_of_udp() -> None:
    assert [is_our_group(number) for number in (NUMBER, group_id(5, udp=True), 5, 0xFFFFFF00)] == [
        True,
        True,
        False,
        False,
    ]
    assert [is_udp_group(number) for number in (NUMBER, group_id(5, udp=True), 5 | 1 << 23)] == [False, True, False]
    with pytest.raises(ValueError, match="wider"):
        group_id(1 << 23)


def test_a_bucket_leads_only_where_its_table_does() -> None:
    one = Group(NUMBER, (Bucket((Ct(7, 30, True),)),))
    assert check_group(one, CONNTRACK) is one
    with pytest.raises(PipelineError):
        check_group(one, FLOOD)  # which leads to itself alone
    with pytest.raises(PipelineError):
        check_group(Group(5, ()), CONNTRACK)


def test_a_bridge_reports_what_changed_in_its_groups() -> None:
    groups = BridgeGroups()
    groups.put(NUMBER, b"1", "Service x/y:80")
    assert groups.changed
    assert groups.take() == {NUMBER: None}
    groups.put(NUMBER, b"2")
    groups.put(NUMBER, b"1")
    assert groups.take() == {}
    groups.drop(NUMBER)
    assert (groups.take(), groups.desired, groups.names) == ({NUMBER: b"1"}, {}, {})


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", [NatKind.SOURCE, NatKind.DESTINATION])
def test_buckets_that_translate_are_encoded_as_their_actions_are(version: int, kind: NatKind) -> None:
    """Also where an address or a port looks like what the template is cut at."""
    top = (1 << (32 if version == 4 else 128)) - 1
    for address in (0, 1, top, top // 0xFF * 0xA5, top // 0xFFFF * 0x5AA5):
        for port in (1, 0xFFFF, 0x5AA5, 0xA5A5):
            for marks in ((), (Load(registers.CONNECTION_OF_SERVICE, 1),)):
                action = Ct(9, 30, True, nat=Nat(kind, version, address, port), marks=marks)
                group = Group(NUMBER, (Bucket((action,), 7), Bucket((action,), 7)))
                body = encode_group(group).body
                assert body.count(encode_actions((action,))) == 2
                assert decode_group(WireGroup(NUMBER, body)) == group
