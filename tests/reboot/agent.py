"""In the machine: runs the commands that tests/reboot/machine.py leaves in the shared folder, one after the other.

Runs as a unit, from the start of the machine to its end. A command that ends the machine has no answer, and is not run
again after the next start. It knows nothing of Headgate.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

SHARE = Path("/share")
PAUSE_SECONDS = 0.05


def write(name: str, text: str) -> None:
    """Let the other side see a file, as a whole."""
    new = SHARE / f".{name}"
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(SHARE / name)


def answer(request: Path) -> None:
    """Run one command with bash, and leave its exit code and what it said."""
    taken = request.rename(request.with_suffix(".taken"))
    done = subprocess.run(
        ["/bin/bash", str(taken)], cwd="/root", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    write(f"{request.stem}.answer", f"{done.returncode}\n{done.stdout.decode(errors='replace')}")


def main() -> None:
    """Tell that this boot is there, then answer until the machine ends."""
    write(f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}.boot", "")
    while True:
        for request in sorted(SHARE.glob("*.request")):
            answer(request)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
