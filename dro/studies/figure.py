"""Figures as svg text: dots with intervals, and scatters. Numbers in, a string out; no library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#c2410c", "#1d4ed8", "#047857", "#7e22ce", "#525252", "#b45309")
_FONT = 'font-family="Helvetica, Arial, sans-serif"'
_ROW, _LEFT, _PLOT, _TOP = 30, 210, 430, 62


@dataclass(frozen=True)
class Dot:
    """A value with its interval; the three are alike where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """Points of one colour: x and y, (n,) each."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def dots(
    title: str,
    rows: Sequence[tuple[str, Sequence[Dot | None]]],
    series: Sequence[str],
    axis: str,
    bounds: tuple[float, float] = (0.0, 1.0),
    per_cent: bool = True,
) -> str:
    """One line a row, one dot a series on it; a row's missing values are None."""
    low, high = bounds
    place = lambda v: _LEFT + _PLOT * (min(max(v, low), high) - low) / (high - low)  # noqa: E731
    bottom = _TOP + _ROW * len(rows)
    parts = [_text(12, 22, title, 15, weight="bold")]
    for number, name in enumerate(series):
        along = _LEFT + number * 150
        parts += [_circle(along, 42, number), _text(along + 9, 46, name, 12)]
    for tick in range(5):
        value = low + (high - low) * tick / 4
        x = place(value)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(_text(x, bottom + 16, f"{value:.0%}" if per_cent else f"{value:.3g}", 11, "middle"))
    for index, (name, values) in enumerate(rows):
        y = _TOP + _ROW * (index + 0.5)
        parts.append(_text(_LEFT - 10, y + 4, name, 12, "end"))
        spread = 7 if len(values) > 1 else 0
        for number, dot in enumerate(values):
            if dot is None:
                continue
            at = y + spread * (number - (len(values) - 1) / 2)
            parts.append(
                f'<line x1="{place(dot.low):.1f}" y1="{at:.1f}" x2="{place(dot.high):.1f}" y2="{at:.1f}" '
                f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="2"/>'
            )
            parts.append(_circle(place(dot.value), at, number))
    parts.append(_text(_LEFT + _PLOT / 2, bottom + 34, axis, 12, "middle"))
    return _svg(_LEFT + _PLOT + 30, bottom + 46, parts)


def scatter(title: str, panels: Sequence[tuple[str, Sequence[Series]]], x_axis: str, y_axis: str) -> str:
    """Panels side by side with the same axes; the first panel's series name the colours."""
    size, gap, left, top = 230, 26, 62, 84
    points = [(x, y) for _, all_of in panels for s in all_of for x, y in zip(s.x, s.y, strict=True)]
    (x_low, x_high), (y_low, y_high) = _bounds([p[0] for p in points]), _bounds([p[1] for p in points])
    parts = [_text(12, 22, title, 15, weight="bold")]
    for number, one in enumerate(panels[0][1] if panels else ()):
        parts += [_circle(left + number * 150, 42, number), _text(left + number * 150 + 9, 46, one.name, 12)]
    for index, (name, all_of) in enumerate(panels):
        start = left + index * (size + gap)
        parts.append(_text(start + size / 2, top - 8, name, 12, "middle"))
        parts.append(
            f'<rect x="{start}" y="{top}" width="{size}" height="{size}" fill="none" stroke="#bbb"/>'
        )
        for number, one in enumerate(all_of):
            for x, y in zip(one.x, one.y, strict=True):
                at = start + size * (x - x_low) / (x_high - x_low)
                up = top + size * (1 - (y - y_low) / (y_high - y_low))
                parts.append(_circle(at, up, number, 3))
        for share in (0.0, 1.0):
            value = x_low + share * (x_high - x_low)
            parts.append(_text(start + size * share, top + size + 15, f"{value:.1f}", 10, "middle"))
    for share in (0.0, 0.5, 1.0):
        value = y_low + share * (y_high - y_low)
        parts.append(_text(left - 6, top + size * (1 - share) + 4, f"{value:.2g}", 10, "end"))
    width = left + max(1, len(panels)) * (size + gap)
    parts.append(_text((left + width) / 2, top + size + 34, x_axis, 12, "middle"))
    parts.append(
        f'<g transform="translate(16 {top + size / 2}) rotate(-90)">{_text(0, 0, y_axis, 12, "middle")}</g>'
    )
    return _svg(width, top + size + 46, parts)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">\n<rect width="100%" height="100%" fill="white"/>'
        f"\n{body}\n</svg>\n"
    )


def _circle(x: float, y: float, colour: int, radius: float = 5) -> str:
    fill = COLOURS[colour % len(COLOURS)]
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" fill-opacity="0.85"/>'


def _text(x: float, y: float, text: str, size: int, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" {_FONT} '
        f'text-anchor="{anchor}" fill="#222">{escape(text)}</text>'
    )
