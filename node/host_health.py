"""Sees to it that this node answers health checks of Services (`node.health`).

systemd listens for the program, and starts it with the first check. Elsewhere, and after a boot or its end there,
`apply` starts it, which the CNI plugin runs where it has ended. A node where nothing listens is set up all the same:
what is missing is told, and load balancers send it nothing.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from node.health_process import PID_FILE
from node.host_cni import PLUGIN
from node.host_names import FAMILIES, HEALTH, HEALTH_PORT
from node.host_settings import Settings

UNIT = "headgate-health.socket"
_SYSTEMD = "/run/systemd/system"  # sd_booted(3)
_SECONDS = 5.0  # that the program has to listen
_TABLES = dict(zip(FAMILIES, ("tcp", "tcp6")))
_LISTENING = "0A"  # TCP_LISTEN, as /proc/net/tcp has it
_WITHOUT = "nothing answers health checks of Services (healthCheckNodePort), so load balancers send this node nothing"


def ensure(settings: Settings) -> str:
    """Start the program where it does not run and no systemd starts it. Returns what is missing, "" if nothing is."""
    if is_listening():
        return ""
    if os.path.isdir(_SYSTEMD):
        return f"{_WITHOUT}: `systemctl enable --now {UNIT}` on the node"
    program = Path(settings.cni_bin_dir) / PLUGIN  # the same program, see `node.__main__`
    if _start(str(program), str(Path(settings.run_dir) / PID_FILE)):
        return ""
    return f"{_WITHOUT}: run `headgate-node health` on the node, which needs port {HEALTH_PORT} of its own addresses"


def is_listening() -> bool:
    """Whether any process of this network namespace listens where checks arrive."""
    return any(_listens(family) for family in FAMILIES)


def _listens(family: int) -> bool:
    packed = socket.inet_pton(family, HEALTH[family])
    words = [packed[at : at + 4][::-1].hex().upper() for at in range(0, len(packed), 4)]  # in the machine's order
    local = f"{''.join(words)}:{HEALTH_PORT:04X}"
    try:
        with open(f"/proc/self/net/{_TABLES[family]}", encoding="ascii") as table:
            return any(line.split()[1:4:2] == [local, _LISTENING] for line in table)
    except OSError:
        return False  # a kernel without this family


def _start(program: str, pid_file: str) -> bool:
    """Start the program in a session of its own, without anything of the caller's; whether it listens then."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CNI_")}
    actions = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    try:
        os.posix_spawn(program, [program, "health", pid_file], environment, file_actions=actions, setsid=True)
    except (OSError, NotImplementedError):
        return False
    deadline = time.monotonic() + _SECONDS
    while not is_listening():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
