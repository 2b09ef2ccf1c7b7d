"""Draws lines as an SVG, without a library. Knows nothing of measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

PLOT_WIDTH, PLOT_HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
FONT = 'font-family="sans-serif" font-size="12"'
COLOURS = ("#1b6ca8", "#c8553d", "#588b3b", "#8e5ea2", "#c98a1b", "#444444")
Points = Sequence[tuple[float, float]]


def svg(title: str, across: str, up: str, lines: Mapping[str, Points], linear: bool = False) -> str:
    """The text of the SVG file. Scales are logarithmic, and all values above 0, unless `linear`."""
    every = [point for points in lines.values() for point in points]
    axis = _Linear if linear else _Logarithmic
    x = axis([a for a, _ in every], LEFT, PLOT_WIDTH - RIGHT)
    y = axis([b for _, b in every], PLOT_HEIGHT - BOTTOM, TOP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PLOT_WIDTH} {PLOT_HEIGHT}" {FONT}>',
             f'<rect width="{PLOT_WIDTH}" height="{PLOT_HEIGHT}" fill="#ffffff"/>',
             _text(LEFT, 22, title, "font-size='15'"),
             _text((LEFT + PLOT_WIDTH - RIGHT) / 2, PLOT_HEIGHT - 12, across, "text-anchor='middle'"),
             _text(LEFT, TOP - 4, up)]  # fmt: skip
    for value in x.ticks():
        parts.append(_line(x.at(value), TOP, x.at(value), PLOT_HEIGHT - BOTTOM))
        parts.append(_text(x.at(value), PLOT_HEIGHT - BOTTOM + 16, f"{value:,g}", "text-anchor='middle'"))
    for value in y.ticks():
        parts.append(_line(LEFT, y.at(value), PLOT_WIDTH - RIGHT, y.at(value)))
        parts.append(_text(LEFT - 6, y.at(value) + 4, f"{value:,g}", "text-anchor='end'"))
    for (name, points), colour in zip(lines.items(), COLOURS * (1 + len(lines) // len(COLOURS)), strict=False):
        places = [(x.at(a), y.at(b)) for a, b in sorted(points)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in places]
        parts.append(_text(places[-1][0] + 8, places[-1][1] + 4, name, f"fill='{colour}'"))
    return "\n".join([*parts, "</svg>", ""])


_FLAT = 1e-6  # less than this between values is no difference: ticks have nine digits


class _Linear:
    """A scale around all values, with some round values as ticks."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        span = max(values) - min(values)
        if span < _FLAT:
            span = 1.0
        power = 10.0 ** math.floor(math.log10(span))
        self._step = next(power * part for part in (0.2, 0.5, 1.0, 2.0) if span <= 6 * power * part)
        self._low = self._step * math.floor(min(values) / self._step)
        self._high = self._step * max(math.ceil(max(values) / self._step), math.floor(min(values) / self._step) + 1)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        """The coordinate of a value."""
        return self._start + (value - self._low) / (self._high - self._low) * (self._end - self._start)

    def ticks(self) -> list[float]:
        """The values with a tick."""
        count = round((self._high - self._low) / self._step)
        return [round(self._low + self._step * number, 9) for number in range(count + 1)]


class _Logarithmic:
    """A logarithmic scale from the smallest to the largest value, with powers of ten as ticks."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low = math.floor(math.log10(min(values)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(values))))
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        """The coordinate of a value."""
        part = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        """The values with a tick."""
        return [10.0**power for power in range(self._low, self._high + 1)]


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'
