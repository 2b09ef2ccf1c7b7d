"""Addresses by the IPAM plugin that the configuration names (CNI specification, section "Delegation").

Its ranges are the node's pod CIDRs; one address comes from each family. host-local keeps what it gave in a folder that
is empty after a boot, for no pod's interface outlives one.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from node.addresses import Cidr, parse_interface, text_of
from node.cni_request import Attachment, Configuration
from node.errors import INVALID_CONFIGURATION, IO_FAILURE, TRY_AGAIN, CniError, NodeError
from node.quick import TYPE_CHECKING, NamedTuple, decode_json, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from signal import SIGKILL, SIGPIPE
    from typing import Any
else:
    from _signal import SIGKILL, SIGPIPE  # `signal` makes an enumeration of all of them

# What each release of host-local understands, and newer ones still do.
_VERSION = "0.4.0"
_SECONDS = 20.0
_MAX_OUTPUT = 1 << 20
_MAX_ADDRESSES = 8
_MAX_INPUT = 1 << 15  # bytes, which a pipe takes at once


class Address(NamedTuple):
    """One address of a pod: its range, and the gateway, which is the first address of the range."""

    packed: bytes
    cidr: Cidr

    @property
    def gateway(self) -> bytes:
        """The switch, as this pod knows it."""
        return self.cidr.address(1)

    @property
    def bits(self) -> int:
        """The length of a host's prefix: 32 or 128."""
        return 8 * len(self.packed)


def make_section(configuration: Configuration, cidrs: tuple[Cidr, ...]) -> dict[str, Any]:
    """The configuration for the IPAM plugin: a set of ranges for each family."""
    families = dict.fromkeys(cidr.family for cidr in cidrs)
    ranges = [[{"subnet": str(cidr)} for cidr in cidrs if cidr.family == family] for family in families]
    ipam = {"dataDir": f"{configuration.run_dir}/ipam", **configuration.ipam, "ranges": ranges}
    return {"cniVersion": _VERSION, "name": configuration.name, "type": "headgate", "ipam": ipam}


def find_plugin(section: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The path of the IPAM plugin in the folders of CNI_PATH. Raises CniError."""
    kind = section["ipam"]["type"]
    for folder in environment.get("CNI_PATH", "").split(":")[:64]:
        path = f"{folder}/{kind}"
        if folder.startswith("/") and os.access(path, os.X_OK):
            return path
    raise CniError(IO_FAILURE, f"there is no IPAM plugin {kind} in CNI_PATH: install the standard plugins of the CNI")


def allocate(
    section: Mapping[str, Any],
    attachment: Attachment,
    environment: Mapping[str, str],
    lock: int,
    cidrs: tuple[Cidr, ...],
) -> list[Address]:
    """Have the plugin allocate the addresses of an attachment. Raises CniError."""
    result = run("ADD", section, attachment, environment, lock)
    entries = result.get("ips")
    if not isinstance(entries, list) or not 0 < len(entries) <= _MAX_ADDRESSES:
        raise CniError(IO_FAILURE, "the IPAM plugin gave no addresses")
    found = []
    for entry in entries:
        try:
            packed = parse_interface(str(entry["address"]))[0]
        except (NodeError, KeyError, TypeError) as error:
            raise CniError(IO_FAILURE, f"the IPAM plugin gave what is no address: {error}") from None
        cidr = next((cidr for cidr in cidrs if packed in cidr), None)
        if cidr is None:
            raise CniError(IO_FAILURE, f"the IPAM plugin gave {text_of(packed)}, which is in no pod CIDR of this node")
        found.append(Address(packed, cidr))
    return found


def run(
    command: str, section: Mapping[str, Any], attachment: Attachment, environment: Mapping[str, str], lock: int
) -> dict[str, Any]:
    """Run a command of the plugin and return its result, {} where it has none. Raises CniError with its words.

    The plugin inherits `lock`: if this process is killed, the next command for the attachment waits for the plugin.
    """
    path = find_plugin(section, environment)
    own = {
        **environment,
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": attachment.container,
        "CNI_IFNAME": attachment.ifname,
    }
    status, output = _spawn(path, encode_json(section).encode(), own, lock)
    try:
        result, rest = decode_json(output.decode()) if output.strip() else ({}, "")
        result = None if rest else result
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict):
        raise CniError(
            IO_FAILURE, f"the IPAM plugin {path} printed what is no result", output[:500].decode(errors="replace")
        )
    if status != 0:
        code, words = result.get("code"), str(result.get("msg") or "no reason given")[:1000]
        code = code if isinstance(code, int) and 0 < code < 100 else TRY_AGAIN
        raise CniError(code, f"the IPAM plugin {path}: {words}", str(result.get("details") or "")[:1000])
    return result


def _spawn(path: str, text: bytes, environment: Mapping[str, str], lock: int) -> tuple[int, bytes]:
    """Run a program with this standard input, and return its exit status and what it printed."""
    if len(text) > _MAX_INPUT:
        raise CniError(INVALID_CONFIGURATION, f"ipam: its section has more than {_MAX_INPUT} bytes")
    input_end, feed = os.pipe2(os.O_CLOEXEC)
    output, output_end = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, input_end, 0), (os.POSIX_SPAWN_DUP2, output_end, 1)]
        os.set_inheritable(lock, True)
        try:
            pid = os.posix_spawn(path, [path], environment, file_actions=actions, setsigdef=[SIGPIPE])
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot start {path}: {error.strerror}") from None
        finally:
            os.set_inheritable(lock, False)
            os.close(output_end)
            output_end = -1
        os.close(input_end)
        input_end = -1
        with suppress(BrokenPipeError):  # its output says why
            os.write(feed, text)
        os.close(feed)
        feed = -1
        return _collect(pid, path, output)
    finally:
        for end in (input_end, feed, output, output_end):
            if end >= 0:
                os.close(end)


def _collect(pid: int, path: str, output: int) -> tuple[int, bytes]:
    """What the process prints until it ends; one that takes too long or prints too much is killed."""
    deadline = time.monotonic() + _SECONDS
    collected = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or len(collected) > _MAX_OUTPUT:
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
            raise CniError(TRY_AGAIN, f"{path} took more than {_SECONDS:g} s, or printed without an end")
        if not select.select([output], [], [], left)[0]:
            continue
        chunk = os.read(output, 1 << 16)
        if not chunk:
            status = os.waitpid(pid, 0)[1]
            return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)), collected
        collected += chunk
