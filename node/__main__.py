"""Starts the program. Nothing else is imported than what the chosen part needs: the plugin is started for every pod."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the chosen part; its exit code."""
    from node import command

    return command.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
