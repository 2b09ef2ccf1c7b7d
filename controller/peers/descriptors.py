"""How many files and connections the process may have open."""

from __future__ import annotations

import resource

import structlog

log = structlog.get_logger(__name__)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return what it is now.

    A connection takes a few descriptors; the usual soft limit of 1,024 is enough for some 250 nodes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # the kernel's own limit may be lower than the hard one
            log.warning("the limit of open files stays as it is", limit=soft, error=str(error))
            return soft
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
