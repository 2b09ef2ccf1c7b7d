"""All that an administrator, DHCP or a router can set on the underlay interface moves to the bridge, and comes back.

Generated settings on a real kernel, in a network namespace; a tap stands for the bridge. The move is also broken off
between any two of its steps.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from node import host_moved, host_underlay
from node.errors import NodeError
from node.host_names import UNDERLAY
from node.host_nft import UNDERLAY_TABLE
from node.host_programs import run
from node.host_settings import Settings
from topology.errors import MissingError
from topology.host import links, netns
from topology.host.machine import require_lab_support

pytestmark = pytest.mark.lab
NAME = "eth9"
OWN = "fe80::858:c0ff:fe00:207"  # the kernel's own, by the MAC address
# What can be set, one a line. Later lines may need earlier ones, so lines that the kernel refuses are left out.
SETTINGS = """
addr add 192.0.2.7/24 brd + dev eth9
addr add 192.0.2.8/24 label eth9:one dev eth9
addr add 192.0.2.129/25 dev eth9 metric 50 scope link
addr add 198.51.100.7/24 brd + dev eth9 valid_lft 3600 preferred_lft 1800
addr add 198.51.100.8/24 dev eth9 noprefixroute
addr add 10.9.0.1 peer 10.9.0.2/32 dev eth9
addr add 169.254.3.4/16 dev eth9 scope link
addr add 2001:db8:2::7/64 dev eth9 nodad
addr add 2001:db8:2::8/64 dev eth9 nodad preferred_lft 0 valid_lft forever
addr add 2001:db8:2::9/64 dev eth9 nodad valid_lft 3600 preferred_lft 1800
addr add 2001:db8:3::8/64 dev eth9 nodad noprefixroute mngtmpaddr metric 77
addr add 2001:db8:4::1/128 dev eth9 nodad
addr add fe80::7/64 dev eth9 nodad
-4 route add 198.51.100.0/24 dev eth9 proto kernel scope link src 198.51.100.8 metric 100
-6 route add 2001:db8:3::/64 dev eth9 proto kernel metric 100
-4 route add default via 192.0.2.1
-4 route add default via 192.0.2.2 metric 50 mtu 1400
-4 route add 192.0.2.1 dev eth9 scope link src 192.0.2.7
-4 route add 203.0.113.0/24 nexthop via 192.0.2.1 weight 1 nexthop via 192.0.2.3 weight 2
-4 route add default via 192.0.2.1 table 100
-4 route add 203.0.113.128/25 via 10.11.12.13 dev eth9 onlink
-6 route add default via 2001:db8:2::1
-6 route add default via fe80::99 dev eth9 metric 2000 expires 500
-6 route add default via fe80::98 dev eth9 proto ra metric 1024 expires 1800
-6 route append default via fe80::97 dev eth9 proto ra metric 1024 expires 1800
-6 route add 2001:db8:9::/48 nexthop via fe80::98 dev eth9 nexthop via fe80::99 dev eth9
-6 route add 2001:db8:8::/48 via fe80::98 dev eth9 table 100
-6 route add 2001:db8:7::/48 dev eth9 metric 5
-4 rule add iif eth9 lookup 100 pref 100
-4 rule add from 192.0.2.7 lookup 100 pref 101
-6 rule add fwmark 1/3 oif eth9 ipproto tcp lookup 100 pref 102
neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev eth9 nud permanent
neigh add 2001:db8:2::99 lladdr 02:00:00:00:00:99 dev eth9 nud permanent router
""".strip().splitlines()
ENDS = re.compile(r"(expires|_lft) (?!0)\d+(sec)?")


@pytest.fixture
def place() -> Iterator[Path]:
    """A network namespace with the interface, and something in the bridge's place with the same MAC address."""
    try:
        require_lab_support("userspace")
    except MissingError as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory(prefix="hgm-", dir="/tmp") as folder:
        path = Path(folder) / "machine"
        netns.create(path)
        try:
            with netns.inside(path):
                links.quiet_namespace()
                run(["ip", "link", "add", NAME, "address", "0a:58:c0:00:02:07", "type", "veth", "peer", "name", "wire"])
                run(["ip", "link", "set", "wire", "up"])
                run(["ip", "tuntap", "add", UNDERLAY, "mode", "tap"])
                run(["ip", "link", "set", UNDERLAY, "address", "0a:58:c0:00:02:07"])
                run(["ip", "link", "set", NAME, "up"])
                yield path
        finally:
            netns.remove(path)


def configure(seed: int) -> None:
    """Some of all settings, as far as they go together."""
    chosen = random.Random(seed)
    for line in SETTINGS:
        if chosen.random() < 0.7:
            subprocess.run(["ip", *line.split()], check=False, capture_output=True)


def snapshot(name: str) -> dict[str, Any]:
    """All that is set on an interface, in the kernel's own order, without what counts down by itself."""
    addresses = json.loads(run(["ip", "-j", "addr", "show", "dev", name]))[0]["addr_info"]
    kept = []
    for one in [one for one in addresses if one["local"] != OWN]:
        ends = [one.pop(key) for key in ("valid_life_time", "preferred_life_time")]
        kept.append({**one, "deprecated": ends[1] == 0, "dynamic": False})
    found: dict[str, Any] = {"addresses": kept, "had": [(one["local"], "dynamic" in one) for one in addresses]}
    for family in ("-4", "-6"):
        lines = run(["ip", family, "-o", "route", "show", "table", "all"]).splitlines()
        mine = [ENDS.sub(r"\1 N", line.replace(" linkdown", "")) for line in lines if f"dev {name} " in line]
        found[f"routes{family}"] = sorted(line for line in mine if "ff00::/8" not in line and "fe80::" not in line[:15])
        found[f"gateways{family}"] = sorted(line for line in mine if " via " in line)
        found[f"rules{family}"] = run(["ip", family, "rule"]).splitlines()
    found["neighbours"] = sorted(run(["ip", "neigh", "show", "dev", name, "nud", "permanent"]).splitlines())
    return found


def on_bridge(found: dict[str, Any]) -> str:
    """What must stand on the bridge where this stood on the interface: the same without ends."""
    text = json.dumps({key: value for key, value in found.items() if key != "had"})
    return text.replace(NAME, UNDERLAY).replace(" expires N", "")


def is_empty(name: str) -> bool:
    return host_moved.read(name) == host_moved.Moved()


class Kept:
    """Settings as a file keeps them: what is not kept is lost when a process ends."""

    def __init__(self) -> None:
        self._text = json.dumps(asdict(Settings(underlay=NAME)))

    def move(self, which: Callable[[Settings, Callable[[], None]], None]) -> Settings:
        settings = Settings(**json.loads(self._text))

        def keep() -> None:
            self._text = json.dumps(asdict(settings))

        which(settings, keep)
        return settings

    def is_moved(self) -> bool:
        return bool(json.loads(self._text)["underlay"])


@pytest.mark.parametrize("seed", range(8))
def test_what_is_on_the_interface_moves_and_comes_back(place: Path, seed: int) -> None:
    configure(seed)
    before, kept = snapshot(NAME), Kept()
    kept.move(host_underlay.to_bridge)
    moved = snapshot(UNDERLAY)
    assert json.loads(on_bridge(moved)) == json.loads(on_bridge(before))
    assert is_empty(NAME)
    kept.move(host_underlay.to_bridge)
    assert snapshot(UNDERLAY) == moved
    kept.move(host_underlay.back)
    assert snapshot(NAME) == before
    assert is_empty(UNDERLAY)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_move_that_breaks_off_anywhere_is_ended_or_undone(
    place: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off between any two steps: by turns another run ends it, or the way back is taken, and broken off too."""
    configure(seed)
    before, chosen = snapshot(NAME), random.Random(seed)
    moved: dict[str, Any] = {}
    for turn in range(6):
        kept = Kept()
        _break_off(monkeypatch, chosen.randrange(60), kept, host_underlay.to_bridge)
        if turn % 2 == 0:
            kept.move(host_underlay.to_bridge)
            moved = moved or snapshot(UNDERLAY)
            assert snapshot(UNDERLAY) == moved, turn
            _break_off(monkeypatch, chosen.randrange(60), kept, host_underlay.back)
        if kept.is_moved():
            kept.move(host_underlay.back)
        assert snapshot(NAME) == before, turn
        assert is_empty(UNDERLAY)


def test_after_a_boot_what_the_interface_has_is_true_and_the_rest_is_set_again(place: Path) -> None:
    """Of a family without addresses of its own, or with a router's alone, the kept ones are set."""
    for words in (f"addr add 192.0.2.7/24 dev {NAME}", f"addr add 2001:db8:2::7/64 dev {NAME} nodad"):
        run(["ip", *words.split()])
    kept = Kept()
    kept.move(host_underlay.to_bridge)
    run(["ip", "addr", "flush", "dev", UNDERLAY, "scope", "global"])
    run(["ip", "addr", "add", "2001:db8:5::7/64", "dev", NAME, "nodad", "valid_lft", "3600", "preferred_lft", "1800"])
    run(["ip", "addr", "add", "192.0.2.9/24", "dev", NAME])
    settings = kept.move(host_underlay.to_bridge)
    assert list(map(host_moved.key, settings.addresses)) == ["192.0.2.9/24", "2001:db8:2::7/64", "2001:db8:5::7/64"]
    assert is_empty(NAME)


def test_a_route_that_cannot_be_set_is_told_after_all_else_is_done(place: Path) -> None:
    run(["ip", "addr", "add", "192.0.2.7/24", "dev", NAME])
    run(["ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.1"])
    kept = Kept()

    def with_another(settings: Settings, keep: Callable[[], None]) -> None:
        host_underlay.to_bridge(settings, keep)
        settings.routes.insert(0, ["-4", "203.0.114.0/24", "via", "198.51.100.1", "dev", NAME])  # no way leads there
        keep()

    kept.move(with_another)
    with pytest.raises(NodeError, match="route"):
        kept.move(host_underlay.back)
    assert not kept.is_moved()
    assert "203.0.113.0/24 via 192.0.2.1" in run(["ip", "route", "show", "dev", NAME])
    assert UNDERLAY_TABLE not in run(["nft", "list", "tables"])


def _break_off(
    monkeypatch: pytest.MonkeyPatch, at: int, kept: Kept, which: Callable[[Settings, Callable[[], None]], None]
) -> None:
    """Let a move end at its step of that number, a call of `ip` or `nft`."""
    steps = iter(range(at))

    def counted(command: list[str], text: str = "") -> str:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return run(command, text)

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        for module in (host_moved, host_underlay):
            patched.setattr(module, "run", counted)
        kept.move(which)
