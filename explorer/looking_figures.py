"""The ladder: one query under every prompt, along the refusal direction; arrays in, figure out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.figures import axis_base, named, numbers, short, wrapped
from explorer.palette import DIRECTION, HARMFUL, HARMLESS, QUERY

CHANCES = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)
"""Marks of the scale of probabilities; the logit of each is where it stands."""


@dataclass(frozen=True)
class Rung:
    """A query under one prompt: f_r, and the mean f_r of the harmful and of the harmless anchors there."""

    prompt: str
    logit: float
    harmful: float
    harmless: float
    verdict: str | None = None


def ladder(rungs: Sequence[Rung], base: str, query: str) -> go.Figure:
    """One rung for each prompt, `base` first where it is there: the query, from where `base` has it."""
    ordered = sorted(rungs, key=lambda rung: rung.prompt != base)
    names = [f"{number + 1}" for number in range(len(ordered))]
    logits = np.array([rung.logit for rung in ordered])
    figure = go.Figure()
    moves = np.full((max(0, len(ordered) - 1) * 3, 2), np.nan)  # an arrow of no length cannot be drawn
    rows: list[str | None] = [None] * len(moves)
    if len(ordered):
        moves[0::3, 0], moves[1::3, 0] = logits[0], logits[1:]
        rows[0::3], rows[1::3] = names[1:], names[1:]
    figure.add_trace(go.Scatter(
        x=numbers(moves[:, 0]), y=rows, mode="lines+markers", hoverinfo="skip", showlegend=False,
        name="shift", line={"color": QUERY, "width": 2},
        marker={"symbol": "arrow", "angleref": "previous", "size": [0, 13, 0] * (len(moves) // 3),
                "color": QUERY},
    ))  # fmt: skip
    for kind, colour, symbol in (("harmful", HARMFUL, "square"), ("harmless", HARMLESS, "square-open")):
        values = np.array([getattr(rung, kind) for rung in ordered])
        figure.add_trace(go.Scatter(
            x=numbers(values), y=names, mode="markers", name=f"mean of {kind} anchors",
            marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 1.5, "color": colour}},
            customdata=[named(rung.prompt) for rung in ordered],
            hovertemplate="mean of " + kind + " anchors: f_r = %{x:+.2f}<extra>under %{customdata}</extra>",
        ))  # fmt: skip
    told = [f"f_r = {r.logit:+.2f}, a refusal in {_chance(r.logit):.1%}; {_observed(r.verdict)}"
            for r in ordered]  # fmt: skip
    figure.add_trace(go.Scatter(
        x=numbers(logits), y=names, mode="markers", name="your question",
        marker={"size": 16, "color": QUERY, "symbol": "star", "line": {"width": 1.2, "color": "#222222"}},
        customdata=[[wrapped(query), said, named(r.prompt)] for r, said in zip(ordered, told, strict=True)],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>under %{customdata[2]}</extra>",
    ))  # fmt: skip
    # An axis above is only drawn for a trace of its own.
    figure.add_trace(go.Scatter(x=[0], y=names[:1], xaxis="x2", mode="markers", marker={"opacity": 0},
                                hoverinfo="skip", showlegend=False, name="probability"))  # fmt: skip
    everything = [0.0, *logits, *(r.harmful for r in ordered), *(r.harmless for r in ordered)]
    low, high = min(everything) - 0.8, max(everything) + 0.8
    figure.update_layout(
        axis_base("ladder"),
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        margin={"l": 100, "r": 16, "t": 46, "b": 72},
        xaxis2={"overlaying": "x", "side": "top", "range": [low, high], "showgrid": False, "zeroline": False,
                "title": {"text": "probability of a refusal, as the probe has it", "font": {"size": 12}},
                "tickmode": "array", "tickvals": [float(np.log(p / (1 - p))) for p in CHANCES],
                "ticktext": [f"{p:.1%}" if p < 0.01 or p > 0.99 else f"{p:.0%}" for p in CHANCES]},
    )  # fmt: skip
    figure.add_shape(type="line", x0=0, x1=0, y0=0, y1=1, yref="paper",
                     line={"color": DIRECTION, "width": 2, "dash": "dash"})  # fmt: skip
    figure.update_xaxes(title="refusal logit f_r", range=[low, high], selector={"overlaying": None})
    figure.update_yaxes(tickmode="array", tickvals=names, ticktext=[short(r.prompt) for r in ordered],
                        type="category", range=[len(ordered) - 0.5, -0.5])  # fmt: skip
    return figure


def _chance(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def _observed(verdict: str | None) -> str:
    """A verdict in words; None: there is no answer yet, "": it was stopped."""
    return "not answered yet" if verdict is None else verdict or "its answer was stopped"
