"""The process that answers health checks where no systemd starts it: the CNI plugin looks for it with each pod.

Nothing slow is imported here; `node.host_health` starts it.
"""

from __future__ import annotations

PID_FILE = "health.pid"  # in the run folder


def has_ended(run_dir: str) -> bool:
    """Whether the process was started on this node, and is gone."""
    try:
        with open(f"{run_dir}/{PID_FILE}", encoding="ascii") as file:
            number = int(file.read(20))
    except (OSError, ValueError):
        return False  # systemd's business, or `apply` has not been here
    try:
        with open(f"/proc/{number}/cmdline", "rb") as file:
            return b"\0health\0" not in file.read(4096)  # nothing at all: it waits for its parent to take note
    except OSError:
        return True
