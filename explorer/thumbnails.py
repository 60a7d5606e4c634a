"""Small pictures of runs, as svg in the page's own colours: numbers in, a string out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT, _EDGE = 132.0, 72.0, 4.0
_MOST = 48
"""Points of a curve: there are no more pixels."""


def loss(values: Sequence[float], planned: int, label: str) -> str:
    """A run's loss by step, from its own lowest to its own highest value; as wide as it got of its steps."""
    told = np.asarray(values, dtype=float)
    if len(told) < 2 or not np.isfinite(told).all():
        return ""
    chosen = np.unique(np.linspace(0, len(told) - 1, _MOST).round().astype(int))
    low, high = float(told.min()), float(told.max())
    x = _EDGE + (_WIDTH - 2 * _EDGE) * chosen / max(planned - 1, 1)
    y = _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * (told[chosen] - low) / ((high - low) or 1.0)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return _svg(f"<polyline class='loss' points='{line}'/>", label)


def movement(
    start: np.ndarray, now: np.ndarray, harmful: np.ndarray, ranges: Sequence[tuple[float, float]], label: str
) -> str:
    """Watched queries from where they were, (n, 2), to where they are; ranges: of both axes.

    Harmful ones are discs, harmless ones rings; the dashed line is where the first axis is zero.
    """
    (left, right), (bottom, top) = ranges
    low, size = np.array([left, bottom]), np.array([right - left, top - bottom])
    scale = np.array([_WIDTH - 2 * _EDGE, _HEIGHT - 2 * _EDGE])

    def placed(points: np.ndarray) -> np.ndarray:
        share = np.clip((points - low) / np.where(size > 0, size, 1.0), 0, 1) * scale + _EDGE
        return np.stack([share[:, 0], _HEIGHT - share[:, 1]], axis=1)

    zero = placed(np.array([[0.0, bottom]]))[0, 0]
    parts = [f"<line class='zero' x1='{zero:.1f}' x2='{zero:.1f}' y1='0' y2='{_HEIGHT:.0f}'/>"]
    for kind, rows in (("harmful", harmful), ("harmless", ~harmful)):
        ends = list(zip(placed(start[rows]), placed(now[rows]), strict=True))
        trails = "".join(f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" for a, b in ends)
        dots = "".join(f"<circle cx='{b[0]:.1f}' cy='{b[1]:.1f}' r='2.4'/>" for _, b in ends)
        parts.append(f"<g class='{kind}'><path d='{trails}'/>{dots}</g>")
    return _svg("".join(parts), label)


def _svg(body: str, label: str) -> str:
    return (
        f"<svg class='thumb' viewBox='0 0 {_WIDTH:.0f} {_HEIGHT:.0f}' role='img' "
        f"aria-label='{escape(label, quote=True)}'>{body}</svg>"
    )
