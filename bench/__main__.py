"""One measurement in this process: `python -m bench NAME SCALE`; the results are the last line, as JSON."""

from __future__ import annotations

import json
import sys

from bench.catalog import run_one


def main(name: str, scale: str) -> None:
    """Measure and print."""
    results = run_one(name, float(scale))
    sys.stdout.write(json.dumps([result.json() for result in results]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
