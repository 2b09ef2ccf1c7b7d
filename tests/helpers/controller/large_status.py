"""Statuses of large clusters with long names and IPv6 addresses, made up the same way each time."""

from __future__ import annotations

from controller.status.model import (
    FlowView,
    OvsdbView,
    PodView,
    PolicyView,
    PortView,
    ProblemView,
    SourceView,
    StatusView,
    SwitchView,
)

LONG_POD = "tenant-" + "n" * 56 + "/" + "p" * 200 + ".end"
LONG_REASON = "port 'metrics' is not known: " + " ".join(f"word{n}" for n in range(60))


def address(n: int) -> str:
    """An IPv6 address as long as they get."""
    return f"2001:db8:{0x1000 + n:x}:{0xA000 + n:x}:{0xB000 + n:x}:{0xC000 + n:x}:{0xD000 + n:x}:{0xE000 + n:x}"


def pod(n: int) -> PodView:
    namespace = f"tenant-{n % 40}-with-a-name"
    return PodView(
        key=LONG_POD if n == 7 else f"{namespace}/web-{n}-7d9f8b6c5d-x{n}",
        node=f"worker-{n % 500}.rack-{n % 9}.example.com",
        port=f"veth{n:x}",
        ofport=n + 1,
        addresses=(f"10.{n >> 8 & 255}.{n & 255}.17", address(n)),
        mac=f"02:00:00:00:{n >> 8 & 255:02x}:{n & 255:02x}",
        isolated=("egress", "ingress") if n % 2 else (),
        installed=n % 3 != 0,
        programmed_after=0.03,
        reason=LONG_REASON if n == 3 else "",
    )


def large_status(pods: int = 2000, policies: int = 300, bridges: int = 500, problems: int = 3000) -> StatusView:
    """Everything at once, and much of it wrong."""
    return StatusView(
        version="1.2.3",
        uptime=90000.0,
        sources=(SourceView("kubernetes", "api", synced=False, reason=LONG_REASON, problems=problems),),
        ovsdb=tuple(OvsdbView(f"tcp:[{address(n)}]:6640", n % 5 > 0, True, reason=LONG_REASON) for n in range(bridges)),
        switches=tuple(
            SwitchView(
                node=f"worker-{n}.rack-{n % 9}.example.com",
                bridge="br-int",
                dpid=f"{n:016x}",
                ovsdb=f"tcp:[{address(n)}]:6640",
                ovsdb_connected=True,
                openflow_connected=n % 7 > 0,
                desired_flows=8000,
                actual_flows=8000,
                foreign_flows=n % 2,
                in_sync=n % 7 > 1,
                error=LONG_REASON if n % 11 == 0 else "",
                unbound_ports=(PortView(f"stray{n}", 9, "neither uplink nor pod: its external_ids name no pod"),),
            )
            for n in range(bridges)
        ),
        policies=tuple(
            PolicyView(
                f"tenant-{n % 40}-with-a-name/allow-web-{n}",
                n % 4 > 0,
                LONG_REASON if not n % 4 else "",
                ("ingress",),
                n,
            )
            for n in range(policies)
        ),
        pods=tuple(map(pod, range(pods))),
        problems=tuple(
            ProblemView(
                f"shop/file-{n}.yaml, document {n}",
                f"NetworkPolicy tenant-a/odd-{n}",
                f"spec.ingress[{n}].ports",
                LONG_REASON,
            )
            for n in range(problems)
        ),
        plain=("tcp:0.0.0.0:6653",),
    )


def flow(n: int) -> FlowView:
    """A flow with a match that is wider than a terminal."""
    match = (
        f"ct_state=+trk+new,ct_ipv6_src={address(n)},ct_ipv6_dst={address(n + 1)},ct_nw_proto=6,"
        f"ct_tp_dst={n % 65536:#x}/0xfff8,reg3={n:#x}/0xffff"
    )
    return FlowView(
        node="worker-1.rack-1.example.com",
        bridge="br-int",
        table=60,
        table_name="ingress",
        priority=100,
        match=match,
        actions=f"conjunction({n},1/3),conjunction({n + 1},2/3),set_field:{address(n)}->ipv6_dst,goto_table:commit",
        cookie=0x4847020000000000,
        kind="clause",
        packets=n % 2,
        bytes=64 * (n % 2),
        duration=n,
        pods=(f"tenant-a/web-{n}",),
        policies=(f"tenant-a/allow-{n}",),
        rules=(f"tenant-a/allow-{n} ingress[0]", LONG_POD + " egress[3]"),
    )
