"""Starts the program. Nothing else is imported than what the chosen part needs: the plugin is started for every pod."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the chosen part; its exit code. Nobody else may write what it makes, whatever started it."""
    os.umask(0o022)
    if "CNI_COMMAND" in os.environ:
        from node import cni

        return cni.main()
    from node import command

    return command.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
