"""Log-log charts as SVG text, by hand: a few points and lines need no drawing library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _GAP = 340, 260, 58, 44, 34, 12
_INK, _MARK, _LINE = "#333", "#4f6bed", "#c2185b"


@dataclass(frozen=True)
class Chart:
    """One chart: positive x and y of the points, and a line y = exp(intercept) · x^slope."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    y: Sequence[float]
    slope: float
    intercept: float


def render(charts: Sequence[Chart]) -> str:
    """The charts side by side as one SVG document."""
    body = "".join(_one(chart, place * (_WIDTH + _GAP)) for place, chart in enumerate(charts))
    width = len(charts) * (_WIDTH + _GAP) - _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" '
        f'viewBox="0 0 {width} {_HEIGHT}" font-family="sans-serif" font-size="11" fill="{_INK}">'
        f'<rect width="{width}" height="{_HEIGHT}" fill="white"/>{body}</svg>\n'
    )


def _one(chart: Chart, left: float) -> str:
    low_x, high_x = _limits(chart.x)
    low_y, high_y = _limits(chart.y)
    inner_width, inner_height = _WIDTH - _LEFT - 12, _HEIGHT - _TOP - _BOTTOM

    def across(value: float) -> float:
        return left + _LEFT + inner_width * (math.log10(value) - low_x) / (high_x - low_x)

    def up(value: float) -> float:
        return _TOP + inner_height * (1 - (math.log10(value) - low_y) / (high_y - low_y))

    right, foot = left + _LEFT + inner_width, _TOP + inner_height
    parts = [
        f'<text x="{left + _LEFT}" y="18" font-weight="bold">{escape(chart.title)}</text>',
        f'<path d="M{left + _LEFT:.1f} {_TOP}V{foot}H{right:.1f}" fill="none" stroke="{_INK}"/>',
        f'<text x="{(left + _LEFT + right) / 2:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(chart.x_label)}</text>",
        f'<text transform="translate({left + 12:.1f} {_TOP + inner_height / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(chart.y_label)}</text>',
    ]
    parts += [
        f'<text x="{across(value):.1f}" y="{foot + 15}" text-anchor="middle">{value:.3g}</text>'
        for value in _ticks(chart.x)
    ]
    side = left + _LEFT - 5
    parts += [
        f'<text x="{side}" y="{up(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        for value in _ticks(chart.y)
    ]
    ends = [(x, math.exp(chart.intercept) * x**chart.slope) for x in (min(chart.x), max(chart.x))]
    (x1, y1), (x2, y2) = ends
    parts.append(f'<path d="M{across(x1):.1f} {up(y1):.1f}L{across(x2):.1f} {up(y2):.1f}" stroke="{_LINE}"/>')
    parts += [
        f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="4" fill="{_MARK}"/>'
        for x, y in zip(chart.x, chart.y, strict=True)
    ]
    return "".join(parts)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Decimal logarithms of the ends of an axis, with a little room."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = 0.12 * (high - low) or 0.1
    return low - room, high + room


def _ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times powers of ten within the values; their ends where there are too few."""
    low, high = min(values), max(values)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    return ticks if 2 <= len(ticks) <= 7 else [low, high] if high > low else [low]
