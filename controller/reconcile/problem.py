"""A problem: what is wrong, as it is told to the operator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: where (a file, an API object, a bridge), with which object and field, and why.

    `key` is the object's `Kind namespace/name`, or "" where it is not known; `field` is a path, or "".
    """

    where: str
    key: str
    field: str
    reason: str
