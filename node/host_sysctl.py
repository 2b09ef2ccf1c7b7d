"""Kernel settings of a node: each earlier value is kept before it is changed, and comes back with `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from node.errors import NodeError
from node.host_settings import Settings

PROC = Path("/proc/sys/net")
_IPV6_ROUTES = Path("/proc/net/ipv6_route")
_RTF_DEFAULT, _RTF_ADDRCONF = 0x10000, 0x40000  # linux/ipv6_route.h: learned from a router advertisement


def wanted(bridge: str, ipv6: bool) -> dict[str, str]:
    """The settings of a node, by path under /proc/sys/net, in the order in which they are made.

    The node forwards. `rp_filter` is loose on the bridge: what comes from the switch has sources of the whole cluster.
    `route_localnet` lets what the node sends to a node port at 127.0.0.1 go to the switch; `node.host_nft` keeps pods
    from what it would open, so its table is there first.
    A node that forwards IPv6 ignores router advertisements unless accept_ra is 2 (kernel's ip-sysctl.rst), so that
    comes first where a default route was learned so.
    """
    found = {
        f"ipv4/conf/{bridge}/rp_filter": "2",
        f"ipv4/conf/{bridge}/route_localnet": "1",
        "ipv4/ip_forward": "1",
    }
    if ipv6:
        found.update({f"ipv6/conf/{name}/accept_ra": "2" for name in _routers()})
        found[f"ipv6/conf/{bridge}/disable_ipv6"] = "0"
        found[f"ipv6/conf/{bridge}/accept_ra"] = "0"
        found["ipv6/conf/all/forwarding"] = "1"
    return found


def change(settings: Settings, keep: Callable[[], None], values: dict[str, str]) -> None:
    """Set what differs; `keep` saves `settings` before the first change. Raises NodeError."""
    differing = {key: value for key, value in values.items() if _read(key) != value}
    for key in differing:
        settings.sysctls.setdefault(key, _read(key))
    if differing:
        keep()
    for key, value in differing.items():
        _write(key, value)


def raise_to(least: int, keys: tuple[str, ...]) -> None:
    """Set what is a smaller number to this one, for good. Raises NodeError."""
    for key in keys:
        if int(_read(key)) < least:
            _write(key, str(least))


def restore(settings: Settings) -> None:
    """Set the earlier values again, the last change first. What is gone with its interface is passed over."""
    for key, value in reversed(list(settings.sysctls.items())):
        if (PROC / key).exists():
            _write(key, value)
    settings.sysctls.clear()


def _routers() -> list[str]:
    """Interfaces with a default route learned from a router advertisement."""
    try:
        lines = _IPV6_ROUTES.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = set()
    for words in map(str.split, lines):
        if len(words) == 10 and int(words[8], 16) & _RTF_DEFAULT and int(words[8], 16) & _RTF_ADDRCONF:
            found.add(words[9])
    return sorted(found)


def _read(key: str) -> str:
    try:
        return (PROC / key).read_text(encoding="ascii").strip()
    except OSError as error:
        raise NodeError(f"net.{key.replace('/', '.')} cannot be read: {error.strerror}") from None


def _write(key: str, value: str) -> None:
    try:
        (PROC / key).write_text(value, encoding="ascii")
    except OSError as error:
        raise NodeError(f"net.{key.replace('/', '.')} cannot be set to {value}: {error.strerror}") from None
