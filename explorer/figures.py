"""A view as a plotly figure: arrays in, figure out; no torch, no gradio.

The order and number of traces never change within one kind of figure, so that an update glides instead
of redrawing.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explorer.views import Curve, Frontier, Group, Scatter, Watch

HARMFUL, HARMLESS, DIRECTION, QUERY = "#e4572e", "#2e86ab", "#8f6bd1", "#f2b134"
# Octagons, not circles: plotly glides a shape's outline, and that of a circle cannot turn into a diamond.
REFUSED, ANSWERED, UNASKED = "diamond", "octagon", "octagon-open"
GLIDE = 180
"""Milliseconds in which points move to their new places."""
_GRID = "rgba(128,128,128,0.18)"
_SIGN_SCALE = [[0.0, "#2e86ab"], [0.5, "#b8b8b8"], [1.0, "#e4572e"]]
_WIDTH_OF_HOVER = 46


def scatter(view: Scatter, colour_by_refusal: bool = False) -> go.Figure:
    """Anchors, group means, refusal direction, boundary, and a visitor's query."""
    three = view.axes == "three"
    figure = go.Figure()
    groups = list(view.clouds)[-2:]
    faint = groups[0] if len(groups) == 2 else None
    focus = groups[-1] if groups else None
    for group, opacity in ((faint, 0.28), (focus, 0.85)):
        for harmful in (True, False):
            figure.add_trace(_cloud(group, harmful, opacity, colour_by_refusal, three))
    for harmful in (True, False):
        figure.add_trace(_means(view, harmful, three))
    figure.add_trace(_boundary(view, three))
    figure.add_trace(_query(view, three))
    _layout(figure, view)
    if view.arrow is not None:
        _arrow(figure, view, three)
    return figure


def watch(view: Watch) -> go.Figure:
    """Watched queries of a run on the plane refusal × harmfulness: where they began, and where they are."""
    figure = go.Figure()
    for harmful in (True, False):
        rows = view.harmful == harmful
        colour = HARMFUL if harmful else HARMLESS
        trails = np.full((int(rows.sum()) * 3, 2), np.nan)
        trails[0::3], trails[1::3] = view.start[rows], view.now[rows]
        figure.add_trace(
            go.Scatter(
                x=_list(trails[:, 0]), y=_list(trails[:, 1]), mode="lines", hoverinfo="skip",
                line={"color": colour, "width": 1}, opacity=0.35, showlegend=False,
            )
        )  # fmt: skip
        for trained in (True, False):
            kept = rows & (view.trained == trained)
            kind = f"{'harmful' if harmful else 'harmless'}, {'trained on' if trained else 'held out'}"
            figure.add_trace(
                go.Scatter(
                    x=_list(view.now[kept, 0]), y=_list(view.now[kept, 1]), mode="markers", name=kind,
                    customdata=[_wrapped(q) for q, k in zip(view.queries, kept, strict=True) if k],
                    hovertemplate="%{customdata}<br>f_r %{x:.2f}, f_h %{y:.2f}<extra>" + kind + "</extra>",
                    marker={"color": colour, "size": 10, "symbol": "octagon" if trained else "octagon-open",
                            "line": {"width": 2, "color": colour}},
                )
            )  # fmt: skip
    _line_at_zero(figure, view.ranges)
    figure.update_layout(_base("watch"), legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    what = "trained on" if view.direct else "trained on the first token"
    figure.update_xaxes(title=f"refusal logit f_r ({what})", range=view.ranges[0])
    figure.update_yaxes(title="harmfulness logit f_h", range=view.ranges[1])
    return figure


def curve(view: Curve) -> go.Figure:
    """Loss terms over the steps of a run."""
    figure = go.Figure()
    colours = {"refusal": HARMFUL, "harmfulness": HARMLESS, "residual": "#7d8597", "total": DIRECTION}
    for name, values in view.terms.items():
        figure.add_trace(
            go.Scatter(
                x=list(view.steps), y=_list(np.asarray(values)), name=view.labels[name],
                mode="lines+markers" if len(view.steps) < 2 else "lines",
                line={"color": colours[name], "width": 3 if name == "total" else 1.8},
                hovertemplate="step %{x}: %{y:.3f}<extra>" + view.labels[name] + "</extra>",
            )
        )  # fmt: skip
    figure.update_layout(_base("curve"), legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    figure.update_xaxes(title="step", range=[0.5, max(view.planned, 2) + 0.5])
    figure.update_yaxes(title="loss (weighted as it counts)", rangemode="tozero")
    return figure


def frontier(view: Frontier) -> go.Figure:
    """Harmful against harmless refusals of prompts, with 95% intervals; up and left is better."""
    figure = go.Figure()
    x, y = 100 * view.harmless, 100 * view.harmful
    symbols = ["star" if trained else "octagon" for trained in view.trained]
    figure.add_trace(
        go.Scatter(
            x=_list(x[:, 0]), y=_list(y[:, 0]), mode="markers+text", showlegend=False, cliponaxis=False,
            text=[_text(_short(name, 24)) for name in view.prompts], textposition="top right",
            marker={"size": [15 if t else 11 for t in view.trained], "symbol": symbols, "color": DIRECTION},
            error_x=_whiskers(x), error_y=_whiskers(y),
            customdata=[_wrapped(name) for name in view.prompts],
            hovertemplate="%{customdata}<br>harmful refused %{y:.0f}%, harmless %{x:.0f}%<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(_base("frontier"))
    most = max(20.0, float(x[:, 2].max()) * 1.15) if len(x) else 20.0
    figure.update_xaxes(title="harmless queries refused (%)", range=[-1, most])
    figure.update_yaxes(title="harmful queries refused (%)", range=[-2, 104])
    return figure


def _whiskers(rates: np.ndarray) -> dict:
    return {"type": "data", "symmetric": False, "array": _list(rates[:, 2] - rates[:, 0]),
            "arrayminus": _list(rates[:, 0] - rates[:, 1]), "color": "rgba(143,107,209,0.45)",
            "thickness": 1.4}  # fmt: skip


def _cloud(group: Group | None, harmful: bool, opacity: float, by_refusal: bool, three: bool):
    kind = "harmful" if harmful else "harmless"
    if group is None:
        return _trace(three, np.empty((0, 3 if three else 2)), mode="markers", name=kind, hoverinfo="skip")
    rows = group.harmful == harmful
    rates = group.refusal_rate[rows]
    symbols = [UNASKED if np.isnan(r) else REFUSED if r >= 0.5 else ANSWERED for r in rates]
    if three:
        symbols = [symbol.replace("octagon", "circle") for symbol in symbols]
    marker: dict = {"size": 4 if three else 8, "symbol": symbols, "opacity": opacity,
                    "color": HARMFUL if harmful else HARMLESS,
                    "line": {"width": 0.5, "color": "rgba(255,255,255,0.35)"}}  # fmt: skip
    if by_refusal and group.refusal_logit is not None:
        marker |= {"color": _list(group.refusal_logit[rows]), "colorscale": _SIGN_SCALE, "cmid": 0,
                   "cmin": -4, "cmax": 4, "showscale": False}  # fmt: skip
    data = []
    logits = None if group.refusal_logit is None else group.refusal_logit[rows]
    for place, index in enumerate(np.flatnonzero(rows)):
        rate = rates[place]
        said = "answers not sampled" if np.isnan(rate) else f"refused in {rate:.0%} of its answers"
        score = "" if logits is None else f"f_r = {logits[place]:+.2f}, "
        data.append([_wrapped(group.queries[index]), f"{score}{said}", _named(group.prompt), int(index)])
    return _trace(
        three, group.xy[rows], mode="markers", name=kind, marker=marker, customdata=data,
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>" + f"{kind}, {_named(group.prompt)}"
        + "</extra>",
    )  # fmt: skip


def _means(view: Scatter, harmful: bool, three: bool):
    xy = view.means[harmful]
    kind = "harmful" if harmful else "harmless"
    return _trace(
        three, xy, mode="lines+markers+text" if not three else "lines+markers",
        text=[_text(_short(p)) for p in view.mean_prompts],
        textposition="top center" if harmful else "bottom center", textfont={"size": 11, "shadow": "auto"},
        line={"color": HARMFUL if harmful else HARMLESS, "width": 2},
        marker={"size": 5 if three else 11, "symbol": "square", "color": HARMFUL if harmful else HARMLESS,
                "line": {"width": 1.5, "color": "#ffffff"}},
        customdata=[[f"mean of the {kind} anchors", "", _named(p), -1] for p in view.mean_prompts],
        hovertemplate="%{customdata[0]}<extra>under %{customdata[2]}</extra>", name=f"mean {kind}",
    )  # fmt: skip


def _boundary(view: Scatter, three: bool):
    line = view.boundary if view.boundary is not None and not three else np.empty((0, 3 if three else 2))
    return _trace(three, line, mode="lines", name="f_r = 0", hoverinfo="skip",
                  line={"color": DIRECTION, "width": 2, "dash": "dash"})  # fmt: skip


def _query(view: Scatter, three: bool):
    located = view.located
    if located is None:
        return _trace(three, np.empty((0, 3 if three else 2)), mode="markers", name="your query")
    names = [_text(_short(p)) + (" ⚠" if out else "")
             for p, out in zip(located.prompts, located.outside, strict=True)]  # fmt: skip
    notes = ["outside the region where the probes were fitted" if out else "" for out in located.outside]
    return _trace(
        three, view.located_xy, mode="lines+markers+text", text=names, textposition="middle right",
        textfont={"size": 13, "weight": "bold", "shadow": "auto"}, line={"color": QUERY, "width": 2},
        marker={"size": 7 if three else 16, "color": QUERY,
                "symbol": ["cross" if out else "diamond" for out in located.outside] if three
                else ["x" if out else "star" for out in located.outside],
                "line": {"width": 1.2, "color": "#222222"}},
        customdata=[[_wrapped(located.query), note, _named(p), -2]
                    for p, note in zip(located.prompts, notes, strict=True)],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>under %{customdata[2]}</extra>",
        name="your query",
    )  # fmt: skip


def _trace(three: bool, xy: np.ndarray, **options):
    options.setdefault("showlegend", False)
    if three:
        options.get("textfont", {}).pop("shadow", None)  # flat text only
        return go.Scatter3d(x=_list(xy[:, 0]), y=_list(xy[:, 1]), z=_list(xy[:, 2]), **options)
    return go.Scatter(x=_list(xy[:, 0]), y=_list(xy[:, 1]), cliponaxis=False, **options)


def _layout(figure: go.Figure, view: Scatter) -> None:
    figure.update_layout(_base(view.axes), showlegend=False)
    if view.axes == "three":
        axes = {
            f"{name}axis": {"title": {"text": title, "font": {"size": 11}}, "range": bounds,
                            "gridcolor": _GRID,
                            "backgroundcolor": "rgba(0,0,0,0)", "zerolinecolor": _GRID}
            for name, title, bounds in zip("xyz", view.titles, view.ranges, strict=True)
        }  # fmt: skip
        figure.update_layout(scene={**axes, "camera": {"eye": {"x": 1.5, "y": 1.4, "z": 0.8}}},
                             margin={"l": 0, "r": 0, "t": 0, "b": 0})  # fmt: skip
        return
    figure.update_xaxes(title=view.titles[0], range=view.ranges[0])
    figure.update_yaxes(title=view.titles[1], range=view.ranges[1])


def _arrow(figure: go.Figure, view: Scatter, three: bool) -> None:
    assert view.arrow is not None
    start, end = view.arrow
    if three:
        figure.add_trace(_trace(
            True, np.stack([start, end]), mode="lines+text", text=["", "refusal"], name="refusal direction",
            line={"color": DIRECTION, "width": 7}, textfont={"color": DIRECTION}, hoverinfo="skip",
        ))  # fmt: skip
        return
    figure.add_annotation(
        x=end[0], y=end[1], ax=start[0], ay=start[1], xref="x", yref="y", axref="x", ayref="y", text="",
        showarrow=True, arrowhead=3, arrowsize=1.1, arrowwidth=3, arrowcolor=DIRECTION,
    )  # fmt: skip
    figure.add_annotation(
        x=end[0], y=end[1], text="refusal", showarrow=False, yshift=13,
        font={"color": DIRECTION, "size": 13, "shadow": "auto"},
    )  # fmt: skip


def _base(view: str) -> dict:
    axis = {"gridcolor": _GRID, "zeroline": False, "automargin": True, "linecolor": _GRID}
    return {
        "template": "none",
        "uirevision": view,
        "transition": {"duration": GLIDE, "easing": "cubic-in-out"},
        "margin": {"l": 48, "r": 12, "t": 12, "b": 44},
        "hoverlabel": {"align": "left", "font": {"size": 12}},
        "hovermode": "closest",
        "xaxis": axis,
        "yaxis": axis,
        "dragmode": "zoom",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#8a94a6", "activecolor": "#4b5563"},
    }


def _line_at_zero(figure: go.Figure, ranges: Sequence[tuple[float, float]]) -> None:
    figure.add_shape(type="line", x0=0, x1=0, y0=ranges[1][0], y1=ranges[1][1],
                     line={"color": DIRECTION, "width": 2, "dash": "dash"})  # fmt: skip


def _short(prompt: str, most: int = 16) -> str:
    name = prompt.removeprefix("text:")
    return name if len(name) <= most else name[: most - 1] + "…"


def _wrapped(text: str) -> str:
    # Plotly reads a few tags in labels: what a visitor typed is text.
    lines = textwrap.wrap(text, _WIDTH_OF_HOVER, max_lines=6, placeholder=" …") or [""]
    return "<br>".join(_text(line) for line in lines)


def _named(prompt: str) -> str:
    """A prompt's name for a hover label, where it is also put into templates."""
    return _text(_short(prompt, 200))


def _text(told: str) -> str:
    # `%{` begins a field of plotly's templates; as an entity it is only read when it is drawn.
    return html.escape(told).replace("%{", "&#37;{")


def _list(values: np.ndarray) -> list:
    # Plain short numbers: plotly would send arrays as base64, which is opaque and no shorter here.
    return [None if v != v else round(float(v), 3) for v in values]
