"""`headgate-node apply`: makes the node's own network what the controller wrote into the OVSDB, and answers there.

Idempotent, and safe to run from several processes: the unit at boot, node.sh, and the CNI plugin when the revision has
changed. What the answer is stands in `node.host_answer`.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from node import (
    files,
    host_answer,
    host_cni,
    host_conntrack,
    host_fragments,
    host_health,
    host_nft,
    host_programs,
    host_routes,
    host_settings,
    host_sysctl,
    host_tunnel,
    host_underlay,
)
from node.errors import NodeError
from node.facts import ROUTING_MODES, BridgeFacts, read_facts
from node.health_process import has_ended
from node.host_names import FAMILIES
from node.host_settings import NOT_CHANGED, STATE, Settings, load, save, write_text
from node.links import find_link
from node.netlink import Netlink
from node.ovsdb import Ovsdb

LOCK = "node.lock"
_PAUSE = 1.0  # seconds between looks while there is no bridge or no OVSDB


class NotYetError(NodeError):
    """The controller has not yet written what the node needs; says what is awaited."""


def ensure(state: str = STATE) -> list[str]:
    """Apply if the controller's revision differs from the applied one. Returns what is missing, [] if the node is
    ready. For the CNI plugin: never waits for the controller."""
    try:
        settings = load(Path(state))
        with Ovsdb(settings.ovsdb) as database:
            facts = read_facts(database, settings.bridge)
        if not facts.revision or facts.revision != _applied(settings):
            apply(Path(state), wait=0, again=False)
        elif has_ended(settings.run_dir):
            apply(Path(state), wait=0)
    except NodeError as error:
        return [str(error)]
    return []


def apply(state: Path, wait: float, again: bool = True) -> str:
    """Apply what the controller wrote, waiting up to `wait` seconds for it. Returns the mode.

    Without `again` nothing is done where another process has applied the same revision meanwhile.

    Raises NodeError, NotYetError after the wait; the controller has been told where the OVSDB answers.
    """
    settings = load(state)
    try:
        if settings.underlay:
            move_underlay(state)
        _wait_for_facts(settings, time.monotonic() + wait)
        with _locked(settings):
            settings = load(state)
            with Ovsdb(settings.ovsdb) as database:
                facts = read_facts(database, settings.bridge)
            if not again and facts.revision == _applied(settings):
                return facts.network
            _apply(state, settings, facts)
            write_text(settings.revision_file, facts.revision)
            if facts.network in ROUTING_MODES:
                host_cni.write(settings, state)
            missing = _lacking(settings, facts) if facts.network in ROUTING_MODES else ""
            host_answer.write(settings, facts.revision, missing)
            if missing:
                sys.stderr.write(f"headgate-node: {missing}\n")
    except NodeError as error:
        host_answer.try_to_write(settings, "", str(error))
        raise
    return facts.network


def configure(state: Path, given: Mapping[str, str]) -> None:
    """Keep settings that node.sh gave, by name, while no other process keeps any. Raises NodeError for unknown ones."""
    with _locked(Settings(run_dir=given.get("run_dir", Settings().run_dir))):
        host_settings.configure(state, given)


def move_underlay(state: Path) -> None:
    """Move the addresses and routes of the underlay interface, or of the uplink, to its bridge. Raises NodeError."""
    settings = load(state)
    with _locked(settings):
        settings = load(state)
        host_underlay.to_bridge(settings, lambda: save(state, settings))


def clear(state: Path) -> None:
    """Undo everything of `apply`, the configuration list first; addresses of the underlay interface come back to it.

    Raises NodeError.
    """
    settings = load(state)
    with _locked(settings):
        settings = load(state)
        if not settings.uplink:
            _clear(state, settings)
        if settings.underlay or settings.uplink:
            host_underlay.back(settings, lambda: save(state, settings))
        for path in (settings.revision_file, Path(settings.run_dir) / LOCK):
            files.remove_file(path)
        host_answer.try_to_write(settings, None, None)


def _lacking(settings: Settings, facts: BridgeFacts) -> str:
    """What a node that is set up lacks all the same, "" if nothing. Raises NodeError."""
    found = (host_cni.hidden(settings), host_tunnel.missing(settings, facts), host_health.ensure(settings))
    return "; ".join(words for words in found if words)


def _apply(state: Path, settings: Settings, facts: BridgeFacts) -> None:
    if facts.network not in ROUTING_MODES:
        _clear(state, settings)
        return
    for words in (facts.missing(), host_programs.missing("nft"), host_cni.missing(settings)):
        if words:
            raise NodeError(words)
    if facts.userspace:
        host_fragments.take(settings)
        host_conntrack.end_sequence_check(settings, lambda: save(state, settings))
    else:
        host_fragments.keep_more()
    host_programs.run(["nft", "-f", "-"], host_nft.node_table(facts, settings.masquerade))
    routes = host_routes.wanted(facts)
    ipv6 = any(route.destination.family == FAMILIES[1] for route in routes)
    with Netlink() as netlink:
        host_sysctl.change(settings, lambda: save(state, settings), host_sysctl.wanted(facts.name, ipv6))
        host_routes.apply(netlink, facts)
    if settings.mtu_request == NOT_CHANGED:
        settings.mtu_request = host_answer.requested_mtu(settings)
        save(state, settings)
    host_answer.request_mtu(settings, facts.mtu)


def _clear(state: Path, settings: Settings) -> None:
    host_cni.remove(settings)
    with Netlink() as netlink:
        link = find_link(netlink, settings.bridge)
        if link is not None:
            host_routes.remove(netlink, link)
    host_sysctl.restore(settings)
    if not host_programs.missing("nft"):
        host_programs.run(["nft", "-f", "-"], host_nft.remove(host_nft.TABLE))
    host_conntrack.restore_sequence_check(settings)
    if settings.mtu_request != NOT_CHANGED and Path(settings.ovsdb).exists():
        host_answer.request_mtu(settings, settings.mtu_request)
        settings.mtu_request = NOT_CHANGED
    save(state, settings)


def _wait_for_facts(settings: Settings, deadline: float) -> None:
    """Wait until the controller has written all that the node needs; tell it meanwhile what is awaited."""
    told = ""
    while True:
        try:
            with Ovsdb(settings.ovsdb) as database:
                words = _awaited(read_facts(database, settings.bridge))
                database.watch("Bridge", [["name", "==", settings.bridge]], ["external_ids"])
                while words and database.wait_for_change(deadline):
                    words = _awaited(read_facts(database, settings.bridge))
                    if words not in ("", told):
                        host_answer.try_to_write(settings, "", words)
                        told = words
            if not words:
                return
            raise NotYetError(words)
        except NodeError:
            if time.monotonic() + _PAUSE >= deadline:
                raise
            time.sleep(_PAUSE)


def _awaited(facts: BridgeFacts) -> str:
    """What the controller has still to write, "" if nothing."""
    if facts.network and facts.network not in ROUTING_MODES:
        return "" if facts.revision else f"the controller wrote no revision into the bridge {facts.name}"
    return facts.missing() or ("" if facts.revision else f"the controller wrote no revision into {facts.name}")


def _applied(settings: Settings) -> str:
    try:
        return settings.revision_file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    """Only one process changes the node at a time. The kernel frees the lock when the process ends, however it ends."""
    folder = Path(settings.run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NodeError(f"{folder / LOCK} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


__all__ = ["NotYetError", "apply", "clear", "configure", "ensure", "move_underlay"]
