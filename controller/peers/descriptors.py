"""The number of files and connections that the process may have open (RLIMIT_NOFILE)."""

from __future__ import annotations

import resource

import structlog

log = structlog.get_logger(__name__)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard limit. Returns the soft limit then.

    A connection uses a few descriptors, so the usual soft limit of 1,024 is enough for about 250 nodes only.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # the kernel's limit may be lower than the hard limit
            log.warning("the limit of open files stays as it is", limit=soft, error=str(error))
            return soft
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
