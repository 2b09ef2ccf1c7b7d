"""Runs `headgate` and reports descriptors that are closed while another green thread waits on them.

python -m tests.helpers.controller.run_with_descriptor_watch run OPTION...
"""

from __future__ import annotations

import sys

from controller.base import hub as hubs
from controller.cli import main
from tests.helpers.controller.descriptor_watch import say, watch


def _install(hub: str) -> None:
    _plain_install(hub)
    if hub == "eventlet":
        watch(say)


if __name__ == "__main__":
    _plain_install = hubs.install
    hubs.install = _install
    sys.exit(main(sys.argv[1:]))
