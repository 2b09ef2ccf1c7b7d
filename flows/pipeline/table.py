"""What an OpenFlow table of the pipeline declares, and the sets of fields that several tables match."""

from __future__ import annotations

from dataclasses import dataclass

from flows.openflow import match_fields as oxm


@dataclass(frozen=True, slots=True)
class Table:
    """One OpenFlow table. `fields` are the names of the fields that its flows may match, `leads_to` the tables that
    they may go to, resubmit to or recirculate to. `does` and `miss` are for docs/pipeline.md."""

    number: int
    name: str
    does: str
    fields: frozenset[str]
    leads_to: tuple[str, ...]
    miss: str


def names(*fields: oxm.Field) -> frozenset[str]:
    """The names of fields."""
    return frozenset(field.name for field in fields)


L2 = names(oxm.ETH_SRC, oxm.ETH_DST, oxm.ETH_TYPE, oxm.IN_PORT)
ARP = names(oxm.ARP_OP, oxm.ARP_SPA, oxm.ARP_TPA, oxm.ARP_SHA)
IP_FIELDS = names(oxm.IP_PROTO, oxm.IPV4_SRC, oxm.IPV4_DST, oxm.IPV6_SRC, oxm.IPV6_DST, oxm.ICMPV6_TYPE,
             oxm.ICMPV6_CODE, oxm.IP_TTL)  # fmt: skip
ND = names(oxm.ND_TARGET, oxm.ND_SLL, oxm.ND_TLL)
TUPLE = names(
    oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_NW_PROTO, oxm.CT_NW_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST,
    oxm.CT_TP_DST, oxm.CONJ_ID, oxm.IP_PROTO, oxm.IP_FRAG, oxm.SCTP_SRC, oxm.SCTP_DST,
)  # fmt: skip
REGISTERS = frozenset(register.name for register in oxm.REGISTERS)
