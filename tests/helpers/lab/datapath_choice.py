"""On which datapath tests with real packets run: the userspace one, or the kernel's where they are told so.

TEST_DATAPATH=kernel, as `make kernel-test` sets it in a Linux of its own, runs them on the kernel's datapath.
"""

from __future__ import annotations

import os

import pytest

from topology.errors import MissingError
from topology.host.machine import Datapath, choose_datapath, require_lab_support


def datapath() -> Datapath:
    """The datapath that tests are to use. Skips the test where the machine lacks what that needs; fails where the
    kernel's datapath is asked for and is not there."""
    asked = os.environ.get("TEST_DATAPATH", "userspace")
    if asked not in ("userspace", "kernel"):
        raise ValueError(f"TEST_DATAPATH must be userspace or kernel, not {asked}")
    chosen: Datapath = choose_datapath("kernel") if asked == "kernel" else "userspace"
    try:
        require_lab_support(chosen)
    except MissingError as error:
        pytest.skip(str(error))
    return chosen


KERNEL = os.environ.get("TEST_DATAPATH") == "kernel"
DATAPATH_TYPE = "system" if KERNEL else "netdev"  # as OVSDB calls it
# For what only one of the two has, or what only one of the two does.
userspace_only = pytest.mark.skipif(KERNEL, reason="only on the userspace datapath")
kernel_only = pytest.mark.skipif(not KERNEL, reason="only on the kernel's datapath")
