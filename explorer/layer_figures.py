"""Layers as plotly figures with frames, which the browser glides between: arrays in, json out.

Every frame holds the same traces in the same order, so that the plot is never drawn anew.
"""

from __future__ import annotations

import html
import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer import text
from explorer.figures import (
    _GRID,
    ANSWERED,
    DIRECTION,
    HARMFUL,
    HARMLESS,
    REFUSED,
    _short,
    axis_base,
    numbers,
    wrapped,
)
from explorer.layer_views import CHANCE, RANGES, Morph, Readable

GLIDE = 50
"""Milliseconds in which points move to the next layer; with the drawing, a step then takes less than 150."""
_SHIFTS = ("#e4572e", "#2e86ab", "#8f6bd1", "#c98a04", "#2f9e6e", "#7d8597")
_PLACES = ["top center", "bottom center", "middle right", "middle left", "top left", "bottom right"] * 2
"""Of prompts' names beside their means, which lie close together."""
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def morph(view: Morph, layer: int, words: list[str]) -> str:
    """The anchors at `layer`, with a frame for every one; words: what is told of each layer, as html."""
    figure = go.Figure()
    for harmful in (True, False):
        rows = np.flatnonzero(view.harmful == harmful)
        kind = "harmful" if harmful else "harmless"
        data = [
            [
                wrapped(view.queries[r]),
                f"refused in {view.refused[r]:.0%} of its answers",
                html.escape(view.prompts[r]),
            ]
            for r in rows
        ]
        symbols = [REFUSED if rate >= 0.5 else ANSWERED for rate in view.refused[rows]]
        figure.add_trace(go.Scatter(
            mode="markers", name=kind, customdata=data, showlegend=False,
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>" + kind + ", %{customdata[2]}</extra>",
            marker={"size": 7, "symbol": symbols, "color": _faded(HARMFUL if harmful else HARMLESS)},
        ))  # fmt: skip
    names = [html.escape(_short(prompt)) for prompt in view.mean_prompts]
    for harmful in (True, False):
        figure.add_trace(go.Scatter(
            mode="markers+text" if harmful else "markers", text=names, textposition=_PLACES[: len(names)],
            textfont={"size": 13, "weight": "bold", "shadow": "auto"}, showlegend=False, cliponaxis=False,
            name=f"mean {'harmful' if harmful else 'harmless'}",
            customdata=[html.escape(prompt) for prompt in view.mean_prompts],
            hovertemplate=f"mean of the {'harmful' if harmful else 'harmless'} anchors"
            "<extra>under %{customdata}</extra>",
            marker={"size": 13, "symbol": "square", "color": HARMFUL if harmful else HARMLESS,
                    "line": {"width": 2, "color": "#ffffff"}},
        ))  # fmt: skip
    figure.add_trace(go.Scatter(
        mode="lines", hoverinfo="skip", showlegend=False, name="refusal direction",
        line={"color": DIRECTION, "width": 4, "simplify": False},
    ))  # fmt: skip
    figure.update_layout(axis_base("layers"), showlegend=False, meta=words)
    for axis, bounds in zip(("xaxis", "yaxis"), RANGES, strict=True):
        figure.update_layout({axis: {"range": bounds, "showticklabels": False, "ticks": "", "title": None}})
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return _with_frames(figure, layer, [_morph_frame(view, k) for k in range(len(view.frames))], GLIDE)


def chart(view: Readable, layer: int) -> str:
    """Three panels over the layers, and a line at `layer` through all of them."""
    panels = [text.PANEL_READABLE, text.PANEL_COSINE, text.PANEL_SHIFTS]
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.09, row_heights=[0.46, 0.24, 0.30],
                           subplot_titles=panels)  # fmt: skip
    layers = list(range(view.last + 1))
    for name, values, colour, dash in (
        (text.LINE_HARMFULNESS, view.harmfulness, HARMFUL, "solid"),
        (text.LINE_REFUSAL, view.refusal, DIRECTION, "dash"),
    ):
        if np.isnan(values).all():
            continue
        figure.add_trace(_band(layers, values, colour), 1, 1)
        spans = [f" (95%: {low:.2f} to {high:.2f})" for _, low, high in values]
        figure.add_trace(_line(layers, values[:, 0], name, colour, dash, spans, 5), 1, 1)
    figure.add_hline(y=CHANCE, line={"color": "#8a94a6", "width": 1, "dash": "dot"}, row=1, col=1)
    cosine = _line(layers, view.cosine, text.LINE_COSINE, DIRECTION, "solid")
    figure.add_trace(cosine.update(showlegend=False), 2, 1)
    figure.add_hline(y=0, line={"color": "#8a94a6", "width": 1, "dash": "dot"}, row=2, col=1)
    for number, (prompt, values) in enumerate(view.shifts.items()):
        look = _SHIFTS[number % len(_SHIFTS)], _DASHES[number % len(_DASHES)]
        shift = _line(layers, np.where(values > 0, values, np.nan), html.escape(_short(prompt)), *look)
        figure.add_trace(shift.update(legend="legend2"), 3, 1)
    sizes = np.array([*view.shifts.values(), np.full(view.last + 1, np.nan)])
    sizes = sizes[sizes > 0] if (sizes > 0).any() else np.ones(1)
    low = float(np.nanmin([0.38, *view.harmfulness[:, 1], *view.refusal[:, 1]]))
    deep = float(np.nanmin([-0.15, *view.cosine]))
    ranges = [(low, 1.12), (deep, 1.08), (float(sizes.min()) / 1.3, float(sizes.max()) * 1.3)]
    markers = len(figure.data)
    for row in (1, 2, 3):
        figure.add_trace(go.Scatter(
            mode="lines", hoverinfo="skip", showlegend=False, line={"color": "#c98a04", "width": 3},
        ), row, 1)  # fmt: skip
    base = {key: value for key, value in axis_base("layers-chart").items() if key not in ("xaxis", "yaxis")}
    flat = {"orientation": "h", "x": 0, "font": {"size": 12}, "bgcolor": "rgba(0,0,0,0)"}
    figure.update_layout(
        base, hovermode="x unified", dragmode=False,
        modebar={"remove": ["zoomIn2d", "zoomOut2d", "resetScale2d", "sendChartToCloud"]},
        margin={"l": 40, "r": 10, "t": 24, "b": 76},
        legend={**flat, "y": 1.0, "yanchor": "top"}, legend2={**flat, "y": -0.15, "yanchor": "top"},
    )  # fmt: skip
    figure.update_xaxes(range=[-0.4, view.last + 0.4], gridcolor=_GRID, zeroline=False, dtick=4)
    figure.update_xaxes(title={"text": "layer", "standoff": 2}, row=3, col=1)
    for row, bounds in enumerate(ranges, 1):
        figure.update_yaxes(range=bounds, gridcolor=_GRID, zeroline=False, row=row, col=1)
    figure.update_yaxes(tickvals=[k / 10 for k in range(11)], row=1, col=1)
    figure.update_yaxes(type="log", range=[np.log10(bound) for bound in ranges[2]], row=3, col=1,
                        tickvals=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20])  # fmt: skip
    figure.update_annotations(font={"size": 13}, x=0, xanchor="left")
    frames = [_marker_frame(layer, ranges, markers) for layer in layers]
    return _with_frames(figure, layer, frames, 0)


def _morph_frame(view: Morph, layer: int) -> dict[str, Any]:
    points = view.frames[layer]
    parts = [points[view.harmful], points[~view.harmful], view.means[True][layer], view.means[False][layer],
             _arrow(view.tips[layer])]  # fmt: skip
    return {
        "traces": list(range(len(parts))),
        "data": [{"x": numbers(part[:, 0]), "y": numbers(part[:, 1])} for part in parts],
    }


def _arrow(tip: np.ndarray) -> np.ndarray:
    """From the middle to `tip` and along both barbs, (5, 2): one line, which can glide."""
    along = tip / (np.linalg.norm(tip) or 1.0)
    barb = min(0.09, 0.4 * float(np.linalg.norm(tip)))
    left, right = (tip - barb * (along + side * along[::-1] * [-0.6, 0.6]) for side in (1, -1))
    return np.stack([np.zeros(2), tip, left, tip, right])


def _marker_frame(layer: int, ranges: list[tuple[float, float]], first: int) -> dict[str, Any]:
    return {
        "traces": list(range(first, first + len(ranges))),
        "data": [{"x": [layer, layer], "y": list(bounds)} for bounds in ranges],
    }


def _with_frames(figure: go.Figure, layer: int, frames: list[dict[str, Any]], glide: int) -> str:
    told = json.loads(figure.to_json())
    for trace, data in zip(frames[layer]["traces"], frames[layer]["data"], strict=True):
        told["data"][trace].update(data)
    return json.dumps({**told, "frames": frames, "at": layer, "glide": glide})


def _line(layers, values, name, colour, dash="solid", spans=None, size=0):  # fmt: skip
    return go.Scatter(
        x=layers, y=numbers(values), name=name, mode="lines+markers" if size else "lines",
        customdata=[[span, k] for k, span in zip(layers, spans or [""] * len(layers), strict=True)],
        line={"color": colour, "width": 2.5, "dash": dash}, marker={"size": size, "color": colour},
        hovertemplate="%{y:.2f}%{customdata[0]}",
    )  # fmt: skip


def _band(layers, values, colour):  # fmt: skip
    return go.Scatter(
        x=[*layers, *reversed(layers)], y=[*numbers(values[:, 2]), *numbers(values[::-1, 1])], fill="toself",
        fillcolor=_faded(colour, 0.18), line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def _faded(colour: str, opacity: float = 0.72) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
