"""The machine, from outside: its start, its end, commands in it (tests/reboot/agent.py runs them)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.helpers.waiting import until

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headgate"
LINUX = Path(os.environ.get("HEADGATE_KERNEL") or CACHE / "kernel" / "linux")
DISK = CACHE / "machine" / "disk"
MEMORY = "768M"
BOOT_SECONDS, COMMAND_SECONDS = 600.0, 600.0  # far more than either takes


class Machine:
    """A machine with a disk of its own in `folder`. It is off at first, and off after `cut_power`."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "disk"
        self.share = folder / "share"
        self.console = folder / "console"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self.share.mkdir()
        subprocess.run(["cp", "--sparse=always", str(DISK), str(self.disk)], check=True)

    def start(self) -> None:
        """Start it, and wait until it runs commands."""
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(self._folder)  # its memory is a file
        command = [
            str(LINUX), f"mem={MEMORY}", f"ubd0={self.disk}", "root=/dev/ubda", "rw", "con=null", "con0=null,fd:1",
            "ssl=null", f"uml_dir={self._folder}", f"share={self.share}", "systemd.log_target=console",
        ]  # fmt: skip
        before = self._boots()
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                env={**os.environ, "TMPDIR": memory},
            )  # fmt: skip
        self._next_boot(before)

    def reboot(self) -> None:
        """As an administrator does it: services end, file systems are unmounted, Linux starts anew."""
        before = self._boots()
        self._leave("systemctl reboot")
        self._next_boot(before)

    def cut_power(self) -> None:
        """Nothing in the machine can do anything any more; what was not on the disk is lost."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        for left in self.share.glob("*.taken"):
            left.unlink()

    def run(self, command: str, code: int | None = 0) -> str:
        """Run a command with bash; what it said. Fails where it ends otherwise than with `code` (None: as it likes)."""
        answer = self._leave(command)
        until(lambda: answer.exists() or self._has_ended(), lambda: f"{command}\n{self._tail()}", COMMAND_SECONDS)
        status, _, said = answer.read_text().partition("\n")
        assert code is None or int(status) == code, f"{command}: ended with {status}\n{said}"
        return said

    def give(self, source: Path, target: str) -> None:
        """Copy a file or folder of this checkout onto the machine's disk."""
        copy = self.share / "given"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, copy, ignore=ignored) if source.is_dir() else shutil.copy(source, copy)
        self.run(f"mkdir -p $(dirname {target}) && rm -rf {target} && cp -a /share/given {target} && sync {target}")
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink()

    def _leave(self, command: str) -> Path:
        self._asked += 1
        new = self.share / f".{self._asked:05}"
        new.write_text(command + "\n")
        new.rename(self.share / f"{self._asked:05}.request")
        return self.share / f"{self._asked:05}.answer"

    def _boots(self) -> set[Path]:
        return set(self.share.glob("*.boot"))

    def _next_boot(self, before: set[Path]) -> None:
        until(
            lambda: self._boots() - before or self._has_ended(),
            lambda: f"the machine's start\n{self._tail()}",
            BOOT_SECONDS,
        )

    def _has_ended(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the machine has ended\n{self._tail()}"
        return False

    def _tail(self) -> str:
        return self.console.read_text(errors="replace")[-3000:]
