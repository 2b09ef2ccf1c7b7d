"""The option type of durations, like 30s, 10m, 24h or 7d."""

from __future__ import annotations

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_DIGITS = 6


class Duration(click.ParamType[int]):
    """A whole number of seconds, minutes, hours or days; seconds without a unit."""

    name = "DURATION"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds."""
        text = str(value)
        number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "s")
        if not (number.isascii() and number.isdecimal() and len(number) <= _MAX_DIGITS):
            self.fail(f"{text!r} is no duration: give a number of s, m, h or d, like 10m", param, ctx)
        return int(number) * _UNITS[unit]
