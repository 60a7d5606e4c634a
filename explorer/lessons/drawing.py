"""What all figures of the tour share: large type, quiet axes, and marks that glide."""

from __future__ import annotations

import html
import textwrap

import numpy as np
import plotly.graph_objects as go

from explorer.figures import ANSWERED, DIRECTION, GLIDE, HARMFUL, HARMLESS, QUERY, REFUSED, UNASKED
from explorer.lessons import text

COLOURS = {True: HARMFUL, False: HARMLESS}
KINDS = {True: text.HARMFUL, False: text.HARMLESS}
GREY = "#8a94a6"
GRID = "rgba(128,128,128,0.18)"
TYPE = 14
"""Pixels: read from the back of a room when the browser is zoomed to 150%."""
__all__ = ["ANSWERED", "COLOURS", "DIRECTION", "GREY", "GRID", "HARMFUL", "HARMLESS", "KINDS", "QUERY",
           "REFUSED", "TYPE"]  # fmt: skip


def figure(step: str) -> go.Figure:
    """An empty figure in the tour's manner; `step` keeps the zoom while the same step is redrawn."""
    made = go.Figure()
    made.update_layout(
        template="none", uirevision=step, hovermode="closest", dragmode="zoom", font={"size": TYPE},
        transition={"duration": GLIDE, "easing": "cubic-in-out"},
        margin={"l": 56, "r": 14, "t": 34, "b": 48}, hoverlabel={"align": "left"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 13}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": "#4b5563"},
    )  # fmt: skip
    return made


def axis(title: str, low: float | None = None, high: float | None = None, **more) -> dict:
    """One axis."""
    made: dict = {"title": {"text": title, "font": {"size": TYPE}, "standoff": 6}, "gridcolor": GRID,
                  "zeroline": False, "linecolor": GRID, "automargin": True,
                  "tickfont": {"size": 12}}  # fmt: skip
    if low is not None:
        made["range"] = [low, high]
    return made | more


def numbers(values) -> list:
    """Plain short numbers; None for what is not one, which leaves a gap."""
    return [None if v != v else round(float(v), 3) for v in np.asarray(values, dtype=np.float64)]


def points(xy: np.ndarray, **options) -> go.Scatter:
    """A trace of points (n, 2)."""
    options.setdefault("showlegend", False)
    return go.Scatter(x=numbers(xy[:, 0]), y=numbers(xy[:, 1]), **{"mode": "markers", **options})


def links(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Lines from start (n, 2) to end (n, 2) as one polyline with gaps, (3n, 2)."""
    made = np.full((len(start) * 3, 2), np.nan)
    made[0::3], made[1::3] = start, end
    return made


def legend(made: go.Figure, refusals: bool = False, trained: bool = False) -> None:
    """What colours and shapes mean, whatever happens to be drawn."""
    entries = [(KINDS[kind], COLOURS[kind], "square") for kind in (True, False)]
    if refusals:
        entries += [(text.LEGEND_REFUSED, GREY, REFUSED), (text.LEGEND_ANSWERED, GREY, ANSWERED)]
    if trained:
        entries += [(text.LEGEND_TRAINED, GREY, ANSWERED), (text.LEGEND_UNSEEN, GREY, UNASKED)]
    for name, colour, symbol in entries:
        made.add_trace(go.Scatter(
            x=[None], y=[None], mode="markers", name=name, hoverinfo="skip",
            marker={"size": 11, "color": colour, "symbol": symbol, "line": {"width": 2, "color": colour}},
        ))  # fmt: skip


def arrow(made: go.Figure, start: np.ndarray, end: np.ndarray, colour: str) -> None:
    """An arrow on the first axes, in data units, with a dark edge that sets it off from points."""
    for edge, width, head in (("rgba(20,20,20,0.6)", 8.0, 0.55), (colour, 5.0, 0.7)):
        made.add_annotation(
            x=float(end[0]), y=float(end[1]), ax=float(start[0]), ay=float(start[1]), xref="x", yref="y",
            axref="x", ayref="y", text="", showarrow=True, arrowhead=3, arrowsize=head, arrowwidth=width,
            arrowcolor=edge,
        )  # fmt: skip


def label(made: go.Figure, place: np.ndarray, said: str, colour: str, size: int = TYPE) -> None:
    """Words at a place in data units; size in pixels."""
    made.add_annotation(
        x=float(place[0]), y=float(place[1]), text=said, showarrow=False,
        font={"color": colour, "size": size, "shadow": "auto"},
    )  # fmt: skip


def wrapped(said: str, width: int = 46) -> str:
    """Text for hover boxes and labels: escaped, in short lines."""
    return "<br>".join(html.escape(line) for line in textwrap.wrap(said, width) or [""])


def room(xy: np.ndarray, share: float = 0.07) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges that hold points (n, 2) with some room around them."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    spare = (high - low) * share
    return (
        (float(low[0] - spare[0]), float(high[0] + spare[0])),
        (float(low[1] - spare[1]), float(high[1] + spare[1])),
    )


def shapes_of(rates: np.ndarray) -> list[str]:
    """A diamond where at least half of the answers refused, else an octagon."""
    return [REFUSED if rate >= 0.5 else ANSWERED for rate in rates]
