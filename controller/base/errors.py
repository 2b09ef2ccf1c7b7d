"""Errors that end the process with one clear line; what a running controller reports stands in status instead."""

from __future__ import annotations


class StartError(Exception):
    """The controller cannot start. The message is for the operator: what is wrong and what to do."""


def reason_of(error: Exception) -> str:
    """The reason in words, without the number that the system has for it."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
