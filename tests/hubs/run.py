"""`headgate` that tells of descriptors closed under another green thread: `python -m tests.hubs.run run OPTION...`."""

from __future__ import annotations

import sys

from controller.base import hub as hubs
from controller.cli import main
from tests.hubs.closing import say, watch


def _install(hub: str) -> None:
    _plain_install(hub)
    if hub == "eventlet":
        watch(say)


if __name__ == "__main__":
    _plain_install = hubs.install
    hubs.install = _install
    sys.exit(main(sys.argv[1:]))
