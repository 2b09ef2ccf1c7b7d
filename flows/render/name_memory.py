"""What a pod learned, as flows that no packet reaches: so a controller that starts finds it on the switches.

One flow for each address that a pod learned, with the names in a note, `+` before those that are live and `-` before
others. docs/adr/0021 says why it is here.
"""

from __future__ import annotations

from collections.abc import Mapping

from flows.cluster.domain_names import MAX_NAME, LearnedAddress
from flows.cluster.model import Key
from flows.cluster.net import ADDRESS_BITS, Net, host_address_error
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Note
from flows.openflow.flow import Flow
from flows.openflow.match import in_range
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.registers import SOURCE_OFPORT
from flows.render.flow_set import FlowSet
from flows.render.terms import address_terms

_END = b"."  # so that the note does not end with a zero byte


def render_memory(flows: FlowSet, ofport: int, pod: Key, address: Net, names: Mapping[str, bool]) -> None:
    """The flow that remembers the names of one address of the pod at a port, and whether each is live."""
    terms = [in_range(SOURCE_OFPORT, ofport), *address_terms("destination", address)]
    note = memory_note(pod, names)
    flows.add(tables.NAMES, priorities.NAMES_LEARNED, terms, [note], cookie=cookie(CookieKind.NAMES, ofport))


def memory_note(pod: Key, names: Mapping[str, bool]) -> Note:
    """The note of such a flow."""
    words = [str(pod), *(("+" if names[name] else "-") + name for name in sorted(names))]
    return Note("\0".join(words).encode() + _END)


def read_memory(flow: Flow) -> tuple[int, Key, list[LearnedAddress]] | None:
    """The ofport, the pod and the entries of such a flow; None for any other, and for one that says nothing sound."""
    if flow.table != tables.NAMES.number or len(flow.actions) != 1 or not isinstance(note := flow.actions[0], Note):
        return None
    values = {term.field: term.value for term in flow.match}
    ofport = values.get(SOURCE_OFPORT.register, 0)
    version, value = (4, values.get(oxm.IPV4_DST)) if oxm.IPV4_DST in values else (6, values.get(oxm.IPV6_DST))
    if value is None or not note.data.endswith(_END):
        return None
    address = Net(version, value, ADDRESS_BITS[version])
    try:
        pod, *names = note.data[: -len(_END)].decode("ascii").split("\0")
    except UnicodeDecodeError:
        return None
    namespace, slash, name = pod.partition("/")
    if not slash or host_address_error(address):
        return None
    sound = [one for one in names if one[:1] in ("+", "-") and 1 < len(one) <= MAX_NAME + 1]
    return ofport, Key(namespace, name), [LearnedAddress(one[1:], address, one[0] == "+") for one in sound]
