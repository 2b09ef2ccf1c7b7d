"""Runs one measurement in this process: `python -m bench NAME SCALE [MORE]...`.

The last line printed has the results as JSON.
"""

from __future__ import annotations

import json
import sys

from bench.catalog import run_one


def main(name: str, scale: str, *more: str) -> None:
    """Measure and print the results."""
    results = run_one(name, float(scale), *more)
    sys.stdout.write(json.dumps([result.json() for result in results]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
