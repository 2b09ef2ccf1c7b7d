"""The version of the installed package, as setup.py declares it."""

from __future__ import annotations

from functools import cache

UNKNOWN = "0+unknown"


@cache
def version() -> str:
    """The installed version, or UNKNOWN when Headgate runs from a folder that was never installed."""
    # Imported here, for it takes longer than all the rest of `headgate --help`.
    from importlib import metadata

    try:
        return metadata.version("headgate")
    except metadata.PackageNotFoundError:
        return UNKNOWN
