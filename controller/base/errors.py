"""Errors that end the process with one line for the operator. Problems of a running controller: see `status`."""

from __future__ import annotations


class StartError(Exception):
    """The controller cannot start. The message tells the operator the reason and what to do."""


def reason_of(error: Exception) -> str:
    """The reason of an error as text, without the errno."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
