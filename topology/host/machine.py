"""Checks that the machine has what a lab needs, and says how to install what is missing."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Literal

from pyroute2 import IPRoute
from pyroute2.netlink import genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from topology.errors import MissingError
from topology.host.netns import in_thread, unshare

Datapath = Literal["userspace", "kernel"]
DatapathChoice = Literal["auto", "userspace", "kernel"]
PROGRAMS = ("ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-appctl", "ovs-ofctl")
PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
SCHEMA_PATHS = ("/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema")
IN_CONTAINER = "inside a container, run it privileged"
GET_OVS = "install Open vSwitch (Debian, Ubuntu: apt-get install openvswitch-switch; Fedora: dnf install openvswitch)"


def program(name: str) -> str:
    """The full path of one of Open vSwitch's programs. Raises MissingError."""
    found = _which(name)
    if found is None:
        raise MissingError([f"{name}: {GET_OVS}"])
    return found


def ovs_schema() -> str:
    """The path of the Open_vSwitch database schema. Raises MissingError."""
    places: tuple[str, ...] = SCHEMA_PATHS
    if "OVS_PKGDATADIR" in os.environ:
        places = (os.environ["OVS_PKGDATADIR"] + "/vswitch.ovsschema", *SCHEMA_PATHS)
    for place in places:
        if os.path.exists(place):
            return place
    raise MissingError([f"vswitch.ovsschema: {GET_OVS}"])


def kernel_datapath() -> bool:
    """Whether this kernel has Open vSwitch's datapath. The request makes the kernel load the module if it exists."""
    with GenericNetlinkSocket() as sock:
        try:
            sock.bind("ovs_datapath", genlmsg)
        except (NetlinkError, OSError):
            return False
    return True


def choose_datapath(choice: DatapathChoice) -> Datapath:
    """The datapath to use; `auto` is the kernel's if it exists. Raises MissingError."""
    if choice == "kernel" and not kernel_datapath():
        raise MissingError(["the openvswitch kernel module: run `modprobe openvswitch`, or use --datapath userspace"])
    if choice == "auto":
        return "kernel" if kernel_datapath() else "userspace"
    return choice


def require_lab_support(datapath: Datapath) -> None:
    """Raise MissingError with everything that is missing for a lab with this datapath."""
    if os.geteuid() != 0:
        raise MissingError(["root rights, to make network namespaces and interfaces: run this command with sudo"])
    missing = [f"{name}: {GET_OVS}" for name in PROGRAMS if _which(name) is None]
    if not missing:
        try:
            ovs_schema()
        except MissingError as error:
            missing.extend(error.missing)
    missing.extend(_missing_link_kinds())
    if datapath == "userspace" and not os.path.exists("/dev/net/tun"):
        missing.append("/dev/net/tun, for the userspace switch's own port: run `modprobe tun`")
    if missing:
        raise MissingError(missing)


def has_sctp() -> bool:
    """Whether the kernel has SCTP sockets; otherwise probes use raw sockets for SCTP."""
    try:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)):
            return True
    except OSError:
        return False


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(PROGRAM_FOLDERS))


def _missing_link_kinds() -> list[str]:
    """Create each kind of link in a temporary namespace; returns a line for each that fails."""
    kinds: dict[str, dict[str, object]] = {"veth": {"peer": "hg1"}, "bridge": {}}

    def attempt(kind: str, options: dict[str, object]) -> Callable[[], str | None]:
        def work() -> str | None:
            try:
                unshare()
            except OSError as error:
                return f"network namespaces ({error.strerror}): {IN_CONTAINER}"
            try:
                with IPRoute() as ip:
                    ip.link("add", ifname="hg0", kind=kind, **options)
            except NetlinkError as error:
                if error.code == errno.EPERM:
                    return f"the right to make {kind} interfaces: {IN_CONTAINER}"
                return f"{kind} interfaces: run `modprobe {kind}` ({os.strerror(error.code)})"
            return None

        return work

    found = [in_thread(attempt(kind, options)) for kind, options in kinds.items()]
    return sorted({line for line in found if line is not None})
