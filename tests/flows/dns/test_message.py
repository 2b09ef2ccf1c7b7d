"""Reading DNS: equal to dnspython on what it encodes, and harmless on anything else."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.net import Net, parse_address
from flows.dns.message import MAX_CHAIN, MAX_POINTERS, DnsError, DnsQuery, read_answer, read_answered_query, read_query

NAMES = ("www.example.com.", "Example.com.", "a.cdn.example.net.", "b_c.example.org.", "x.y.")
KINDS = {"A": 1, "AAAA": 28}


def normal(name: str) -> str:
    return name.rstrip(".").lower()


@st.composite
def answers(draw: st.DrawFn) -> dns.message.Message:
    name, kind = draw(st.sampled_from(NAMES)), draw(st.sampled_from(("A", "AAAA", "TXT")))
    query = dns.message.make_query(name, kind, id=draw(st.integers(0, 0xFFFF)))
    answer = dns.message.make_response(query)
    for _ in range(draw(st.integers(0, 5))):
        owner, life = draw(st.sampled_from(NAMES)), draw(st.integers(0, 0x7FFFFFFF))
        rdata = draw(
            st.one_of(
                st.tuples(st.just("CNAME"), st.sampled_from(NAMES)),
                st.tuples(st.just("A"), st.integers(1, 5).map(lambda n: f"192.0.2.{n}")),
                st.tuples(st.just("AAAA"), st.integers(1, 5).map(lambda n: f"2001:db8::{n}")),
                st.tuples(st.just("TXT"), st.just('"text"')),
            )
        )
        answer.answer.append(dns.rrset.from_text(owner, life, "IN", *rdata))
    return answer


def by_dnspython(wire: bytes) -> dict[Net, int]:
    """The addresses of the name asked, record by record, in the order of the answer."""
    message = dns.message.from_wire(wire, one_rr_per_rrset=True)
    question = message.question[0]
    found: dict[Net, int] = {}
    name, least = question.name, 0xFFFFFFFF
    if question.rdtype not in KINDS.values():
        return {}
    for _ in range(MAX_CHAIN + 1):
        here = [one for one in message.answer if one.name == name and one.rdtype == question.rdtype]
        for one in here:
            net = parse_address(one[0].address)
            found[net] = min(one.ttl, least, found.get(net, least))
        aliases = [one for one in message.answer if one.name == name and one.rdtype == dns.rdatatype.CNAME]
        if here or not aliases:
            break
        name, least = aliases[0][0].target, min(least, aliases[0].ttl)
    return found


@settings(max_examples=300, deadline=None)
@given(answer=answers())
def test_answers_say_what_dnspython_reads(answer: dns.message.Message) -> None:
    wire = answer.to_wire()
    read = read_answer(wire)
    question = answer.question[0]
    assert read.query == DnsQuery(answer.id, normal(question.name.to_text()), question.rdtype)
    assert dict(read.addresses) == by_dnspython(wire)
    with pytest.raises(DnsError):
        read_query(wire)


@settings(max_examples=300, deadline=None)
@given(answer=answers(), data=st.data())
def test_whatever_is_changed_or_cut_is_read_or_refused(answer: dns.message.Message, data: st.DataObject) -> None:
    wire = bytearray(answer.to_wire())
    for _ in range(data.draw(st.integers(0, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    harmless(bytes(wire[: data.draw(st.integers(0, len(wire)))]))


@settings(max_examples=300, deadline=None)
@given(wire=st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(wire: bytes) -> None:
    harmless(wire)
    harmless(b"\x00\x01\x80\x00\x00\x01\x00\xff\x00\x00\x00\x00" + wire)


def harmless(wire: bytes) -> None:
    for read in (read_answer, read_query):
        try:
            found: Any = read(wire)
        except DnsError:
            continue
        assert found is not None


HEAD = b"\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00"


@pytest.mark.parametrize(
    "wire",
    [
        HEAD + b"\xc0\x0c\x00\x01\x00\x01",  # a pointer to itself
        HEAD + b"\xc0\x0e\xc0\x0c\x00\x01\x00\x01",  # two pointers in a circle
        HEAD + b"\x01a\xc0\x0c\x00\x01\x00\x01",  # a label, and a pointer to it
        HEAD + b"\xff\xff\x00\x01\x00\x01",
        HEAD + b"\x80\x00\x00\x01\x00\x01",  # a label of an unknown kind
        HEAD + b"\x3f" + b"a" * 62,
        HEAD + (b"\x3f" + b"a" * 63) * 5 + b"\x00\x00\x01\x00\x01",  # a name of 320 bytes
        HEAD + b"\x01a\x00\x00\x01\x00\x01" + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x05abcde",  # five bytes
        HEAD + b"\x01a\x00\x00\x01\x00\x01" + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\xff\xffabcd",
        HEAD.replace(b"\x00\x01\x00\x01", b"\x00\x02\x00\x01") + b"\x01a\x00\x00\x01\x00\x01" * 2,  # two questions
    ],
)
def test_what_breaks_the_format_is_refused(wire: bytes) -> None:
    with pytest.raises(DnsError):
        read_answer(wire)


def test_aliases_in_a_circle_end() -> None:
    query = dns.message.make_query("a.example.com", "A")
    answer = dns.message.make_response(query)
    for one, other in (("a", "b"), ("b", "a")):
        answer.answer.append(dns.rrset.from_text(f"{one}.example.com.", 5, "IN", "CNAME", f"{other}.example.com."))
    assert read_answer(answer.to_wire()).addresses == ()


def test_other_bytes_in_a_name_keep_it_apart() -> None:
    odd = [dns.name.Name([label, b"example", b"com", b""]) for label in (b"a.b", b"a b", b"\x00", b"*")]
    names = {read_query(dns.message.make_query(one, "A").to_wire()).name for one in odd}
    assert len(names) == 4
    assert not any(name.endswith(".example.com") for name in names)


@pytest.mark.parametrize("hops", [1, MAX_POINTERS, MAX_POINTERS + 1, 5000])
def test_a_chain_of_pointers_is_followed_so_far_only(hops: int) -> None:
    """Else a message of a few kilobytes would cost its reader the square of that."""
    question = b"\x03www\x07example\x03com\x00" + b"\x00\x01\x00\x01"
    chain = bytearray(b"\xc0\x0c")
    start = 12 + len(question) + 12  # behind the head of the record whose data the chain is
    for hop in range(1, hops):
        chain += (0xC000 | start + 2 * (hop - 1)).to_bytes(2, "big")
    text = b"\xc0\x0c\x00\x10\x00\x01" + bytes(4) + len(chain).to_bytes(2, "big") + chain
    end = (0xC000 | start + 2 * (hops - 1)).to_bytes(2, "big")
    address = end + b"\x00\x01\x00\x01" + bytes(4) + b"\x00\x04" + bytes((192, 0, 2, 7))
    wire = b"\x00\x07\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00" + question + text + address
    if hops + 1 > MAX_POINTERS:
        with pytest.raises(DnsError):
            read_answer(wire)
    else:
        assert read_answer(wire).addresses == ((parse_address("192.0.2.7"), 0),)
    assert read_answered_query(wire) == DnsQuery(7, "www.example.com", 1)
