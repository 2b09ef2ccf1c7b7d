"""Runs one measurement in this process: `python -m bench NAME SCALE [MORE]...`.

The last line printed has the results as JSON.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys

from bench.catalog import run_one

_PR_SET_PDEATHSIG = 1  # prctl(2)


def _end_with_parent() -> None:
    """End in order on SIGTERM, and when the command that started this is gone: measurements have own processes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(name: str, scale: str, *more: str) -> None:
    """Measure and print the results."""
    results = run_one(name, float(scale), *more)
    sys.stdout.write(json.dumps([result.json() for result in results]) + "\n")


if __name__ == "__main__":
    _end_with_parent()
    main(*sys.argv[1:])
    sys.stdout.flush()
