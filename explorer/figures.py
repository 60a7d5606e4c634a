"""A view as a plotly figure: arrays in, figure out; no torch, no gradio.

The order and number of traces never change within one kind of figure, so that an update glides instead
of redrawing.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go

from explorer import density
from explorer.palette import DIRECTION, HARMFUL, HARMLESS, QUERY, Colour, key, marks
from explorer.views import Curve, Frontier, Group, Scatter, Watch

# Octagons, not circles: plotly glides a shape's outline, and that of a circle cannot turn into a diamond.
REFUSED, ANSWERED, UNASKED = "diamond", "octagon", "octagon-open"
GLIDE = 180
"""Milliseconds in which points move to their new places."""
_GRID = "rgba(128,128,128,0.18)"
_WIDTH_OF_HOVER = 46


def scatter(
    view: Scatter,
    colour: Colour = "class",
    contours: bool = False,
    selected: frozenset[str] = frozenset(),
) -> go.Figure:
    """Anchors, group means, refusal direction, boundary, and a visitor's queries.

    contours: lines of equal density. selected: keys of the points that are not to fade.
    """
    three = view.axes == "three"
    groups = list(view.clouds)
    faint, focus = groups[:-1], groups[-1:]
    paled = 0.8 if colour == "prompt" else 0.28
    traces = []
    for some, opacity in ((faint, paled), (focus, 0.85)):
        traces += [_cloud(some, harmful, opacity, colour, three) for harmful in (True, False)]
    traces += [_means(view, harmful, three) for harmful in (True, False)]
    traces.append(_boundary(view, three))
    traces += [_contours(view, harmful, contours and not three) for harmful in (True, False)]
    traces += [_others(view, kind, colour, three) for kind in ("batch", "pin")]
    traces += [_moves(view, three), _query(view, three)]
    if three and view.arrow is not None:
        traces.append(_direction(view))
    if selected:
        for trace in traces:
            _fade(trace, selected)
    # Checked by hand, not by plotly: that would take longer than everything else together.
    figure = go.Figure({"data": traces}, _validate=False)
    _layout(figure, view)
    if view.arrow is not None and not three:
        _arrow(figure, view)
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
                x=numbers(trails[:, 0]), y=numbers(trails[:, 1]), mode="lines", hoverinfo="skip",
                line={"color": colour, "width": 1}, opacity=0.35, showlegend=False,
            )
        )  # fmt: skip
        for trained in (True, False):
            kept = rows & (view.trained == trained)
            kind = f"{'harmful' if harmful else 'harmless'}, {'trained on' if trained else 'held out'}"
            figure.add_trace(
                go.Scatter(
                    x=numbers(view.now[kept, 0]), y=numbers(view.now[kept, 1]), mode="markers", name=kind,
                    customdata=[wrapped(q) for q, k in zip(view.queries, kept, strict=True) if k],
                    hovertemplate="%{customdata}<br>f_r %{x:.2f}, f_h %{y:.2f}<extra>" + kind + "</extra>",
                    marker={"color": colour, "size": 10, "symbol": "octagon" if trained else "octagon-open",
                            "line": {"width": 2, "color": colour}},
                )
            )  # fmt: skip
    _line_at_zero(figure, view.ranges)
    figure.update_layout(
        axis_base("watch"), legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    )
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
                x=list(view.steps), y=numbers(np.asarray(values)), name=view.labels[name],
                mode="lines+markers" if len(view.steps) < 2 else "lines",
                line={"color": colours[name], "width": 3 if name == "total" else 1.8},
                hovertemplate="step %{x}: %{y:.3f}<extra>" + view.labels[name] + "</extra>",
            )
        )  # fmt: skip
    figure.update_layout(
        axis_base("curve"), legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    )
    figure.update_xaxes(title="step", range=[0.5, max(view.planned, 2) + 0.5])
    figure.update_yaxes(title="loss (weighted)", rangemode="tozero")
    return figure


def frontier(view: Frontier) -> go.Figure:
    """Harmful against harmless refusals of prompts, with 95% intervals; up and left is better."""
    figure = go.Figure()
    x, y = 100 * view.harmless, 100 * view.harmful
    symbols = ["star" if trained else "octagon" for trained in view.trained]
    figure.add_trace(
        go.Scatter(
            x=numbers(x[:, 0]), y=numbers(y[:, 0]), mode="markers+text", showlegend=False, cliponaxis=False,
            text=_labels(view), textposition="top right",
            marker={"size": [15 if t else 11 for t in view.trained], "symbol": symbols, "color": DIRECTION},
            error_x=_whiskers(x), error_y=_whiskers(y),
            customdata=[wrapped(name) for name in view.prompts],
            hovertemplate="%{customdata}<br>harmful refused %{y:.0f}%, harmless %{x:.0f}%<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(axis_base("frontier"))
    most = max(20.0, float(x[:, 2].max()) * 1.15) if len(x) else 20.0
    figure.update_xaxes(title="harmless queries refused (%)", range=[-1, most])
    figure.update_yaxes(title="harmful queries refused (%)", range=[-2, 104])
    return figure


def _labels(view: Frontier) -> list[str]:
    """What stands at each point: prompts with the same two rates share one place, and so one label."""
    places = list(zip(view.harmful[:, 0], view.harmless[:, 0], strict=True))
    named = [_text(_short(name, 24)) for name in view.prompts]
    together = {
        place: "<br>".join(name for name, other in zip(named, places, strict=True) if other == place)
        for place in places
    }
    return [together.pop(place, "") for place in places]


def _whiskers(rates: np.ndarray) -> dict:
    return {"type": "data", "symmetric": False, "array": numbers(rates[:, 2] - rates[:, 0]),
            "arrayminus": numbers(rates[:, 0] - rates[:, 1]), "color": "rgba(143,107,209,0.45)",
            "thickness": 1.4}  # fmt: skip


def _cloud(groups: Sequence[Group], harmful: bool, opacity: float, colour: Colour, three: bool) -> dict:
    """The points of one class of some prompts."""
    kind = "harmful" if harmful else "harmless"
    parts = [(group, group.harmful == harmful) for group in groups]
    if not parts:
        empty = np.empty((0, 3 if three else 2))
        return _trace(three, empty, mode="markers", name=kind, hoverinfo="skip", customdata=[])
    rates = np.concatenate([group.refusal_rate[rows] for group, rows in parts])
    places = np.concatenate([np.full(int(rows.sum()), group.number) for group, rows in parts])
    marker = _marker(marks(colour, harmful, rates, _logits(parts), places, three), opacity, three)
    data = [row for group, rows in parts for row in _told(group, np.flatnonzero(rows))]
    return _trace(
        three, np.concatenate([group.xy[rows] for group, rows in parts]), mode="markers", name=kind,
        marker=marker, customdata=data,
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>" + kind + ", %{customdata[2]}</extra>",
    )  # fmt: skip


def _logits(parts: Sequence[tuple[Group, np.ndarray]]) -> np.ndarray | None:
    found = [group.refusal_logit[rows] for group, rows in parts if group.refusal_logit is not None]
    return np.concatenate(found) if len(found) == len(parts) else None


def _marker(told: dict, opacity: float, three: bool) -> dict:
    # A ring is drawn by its line, a filled shape is only set off by it.
    widths = [1.7 if symbol.endswith("open") else 0.5 for symbol in told["symbol"]]
    line = {"width": 1 if three else widths, "color": "rgba(255,255,255,0.35)"}
    return {"size": 4 if three else 8, "opacity": opacity, "line": line, **told}


def _told(group: Group, rows: np.ndarray) -> list[list[str]]:
    """For each point what hover, click and selection say: query, what is known, prompt, its key."""
    data = []
    for index in rows:
        rate = group.refusal_rate[index]
        if group.kind == "anchor":
            said = "answers not sampled" if np.isnan(rate) else f"refused in {rate:.0%} of its answers"
        else:
            said = "not answered yet" if np.isnan(rate) else "refused" if rate >= 0.5 else "answered"
        score = "" if group.refusal_logit is None else f"f_r = {group.refusal_logit[index]:+.2f}, "
        data.append([wrapped(group.queries[index]), f"{score}{said}", named(group.prompt),
                     key(group.kind, group.prompt, int(index))])  # fmt: skip
    return data


def _others(view: Scatter, kind: str, colour: Colour, three: bool) -> dict:
    """A batch, or pinned queries: set off from the anchors by their shape."""
    groups = [group for group in view.asked if group.kind == kind]
    name, symbol = ("batch", "cross") if kind == "batch" else ("pinned", "star-triangle-up")
    if not groups:
        return _trace(three, np.empty((0, 3 if three else 2)), mode="markers", name=name, customdata=[])
    rows = [(group, np.ones(len(group.xy), bool)) for group in groups]
    rates = np.concatenate([group.refusal_rate for group in groups])
    places = np.concatenate([np.full(len(group.xy), group.number) for group in groups])
    told = marks(colour, True, rates, _logits(rows), places, three)
    told |= {"symbol": ("x" if kind == "pin" else "cross") if three else symbol}
    if colour == "class":
        told["color"] = QUERY
    labels = [str(index + 1) for group in groups for index in range(len(group.xy))]
    return _trace(
        three, np.concatenate([group.xy for group in groups]), name=name,
        mode="markers" if kind == "batch" else "markers+text", text=labels, textposition="top center",
        marker={"size": 5 if three else 11, "line": {"width": 1.2, "color": "#222222"}, **told},
        customdata=[row for group in groups for row in _told(group, np.arange(len(group.xy)))],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>" + name
        + " %{text}, %{customdata[2]}</extra>",
    )  # fmt: skip


def _contours(view: Scatter, harmful: bool, wanted: bool) -> dict:
    """Lines of equal density of one class in focus, around a quarter, half and three quarters of it."""
    colour = HARMFUL if harmful else HARMLESS
    made = {"type": "contour", "name": f"density {'harmful' if harmful else 'harmless'}", "showlegend": False,
            "hoverinfo": "skip", "showscale": False, "visible": False, "z": [[0, 0], [0, 0]],
            "line": {"color": colour, "width": 1.4, "dash": "solid" if harmful else "dot"},
            "contours": {"coloring": "none"}}  # fmt: skip
    rows = view.clouds[-1].harmful == harmful if view.clouds else np.zeros(0, bool)
    if view.axes == "three":
        return _trace(True, np.empty((0, 3)), mode="markers", name=made["name"], hoverinfo="skip")
    if not wanted or rows.sum() < 3:
        return made
    x, y, found = density.estimate(view.clouds[-1].xy[rows], view.ranges)
    contours = {"coloring": "none", "start": 0.25, "end": 0.75, "size": 0.25}
    return made | {"visible": True, "x": numbers(x), "y": numbers(y), "contours": contours,
                   "autocontour": False, "z": [numbers(row) for row in density.enclosed(found)]}  # fmt: skip


def _means(view: Scatter, harmful: bool, three: bool) -> dict:
    xy = view.means[harmful]
    kind = "harmful" if harmful else "harmless"
    colour = HARMFUL if harmful else HARMLESS
    return _trace(
        three, xy, mode="lines+markers+text" if not three else "lines+markers",
        text=[_text(_short(p)) for p in view.mean_prompts],
        textposition="top center" if harmful else "bottom center", textfont={"size": 11, "shadow": "auto"},
        line={"color": colour, "width": 2},
        marker={"size": 5 if three else 11, "symbol": "square" if harmful else "square-open",
                "color": colour, "line": {"width": 1.5, "color": "#ffffff" if harmful else colour}},
        customdata=[[f"mean of the {kind} anchors", "", named(p), ""] for p in view.mean_prompts],
        hovertemplate="%{customdata[0]}<extra>under %{customdata[2]}</extra>", name=f"mean {kind}",
    )  # fmt: skip


def _boundary(view: Scatter, three: bool) -> dict:
    line = view.boundary if view.boundary is not None and not three else np.empty((0, 3 if three else 2))
    return _trace(three, line, mode="lines", name="f_r = 0", hoverinfo="skip",
                  line={"color": DIRECTION, "width": 2, "dash": "dash"})  # fmt: skip


def _moves(view: Scatter, three: bool) -> dict:
    """What each prompt does to the query: arrows from its first place."""
    width = 3 if three else 2
    line = np.full((len(view.moves) * 3, width), np.nan)
    line[0::3], line[1::3] = view.moves[:, 0], view.moves[:, 1]
    options: dict = {
        "line": {"color": QUERY, "width": 3 if three else 2},
        "hoverinfo": "skip",
        "name": "moves",
    }
    if three:
        return _trace(True, line, mode="lines", **options)
    marker = {"symbol": "arrow", "angleref": "previous", "size": [0, 13, 0] * len(view.moves),
              "color": QUERY, "line": {"width": 0.8, "color": "#222222"}}  # fmt: skip
    return _trace(False, line, mode="lines+markers", marker=marker, **options)


def _query(view: Scatter, three: bool) -> dict:
    located = view.located
    if located is None:
        empty = np.empty((0, 3 if three else 2))
        return _trace(three, empty, mode="markers", name="your query", customdata=[])
    names = [_text(_short(p)) + (" ⚠" if out else "")
             for p, out in zip(located.prompts, located.outside, strict=True)]  # fmt: skip
    notes = ["outside the region where the probes were fitted" if out else "" for out in located.outside]
    if view.located_logit is not None:
        notes = [", ".join(filter(None, (f"f_r = {logit:+.2f}", note)))
                 for logit, note in zip(view.located_logit, notes, strict=True)]  # fmt: skip
    return _trace(
        three, view.located_xy, mode="markers+text", text=names, textposition="middle right",
        textfont={"size": 13, "weight": "bold", "shadow": "auto"},
        marker={"size": 7 if three else 16, "color": QUERY,
                "symbol": ["cross" if out else "diamond" for out in located.outside] if three
                else ["x" if out else "star" for out in located.outside],
                "line": {"width": 1.2, "color": "#222222"}},
        customdata=[[wrapped(located.query), note, named(p), key("query", p, 0)]
                    for p, note in zip(located.prompts, notes, strict=True)],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>under %{customdata[2]}</extra>",
        name="your query",
    )  # fmt: skip


def _fade(trace: dict, selected: frozenset[str]) -> None:
    """Points that are not selected fade, all but means and the query in hand."""
    if trace["type"] != "scatter" or trace["name"] == "your query" or trace["name"].startswith("mean"):
        return
    if "customdata" not in trace:
        return
    trace["selectedpoints"] = [n for n, row in enumerate(trace["customdata"]) if row[3] in selected]
    trace["unselected"] = {"marker": {"opacity": 0.1}}


def _trace(three: bool, xy: np.ndarray, **options) -> dict:
    options.setdefault("showlegend", False)
    if three:
        options.get("textfont", {}).pop("shadow", None)  # flat text only
        places = dict(zip("xyz", map(numbers, xy.T), strict=True))
        return {"type": "scatter3d", **places, **options}
    return {"type": "scatter", "x": numbers(xy[:, 0]), "y": numbers(xy[:, 1]), "cliponaxis": False, **options}


def _layout(figure: go.Figure, view: Scatter) -> None:
    figure.update_layout(axis_base(view.axes), showlegend=False)
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


def _direction(view: Scatter) -> dict:
    assert view.arrow is not None
    return _trace(
        True, np.stack(view.arrow), mode="lines+text", text=["", "refusal"], name="refusal direction",
        line={"color": DIRECTION, "width": 7}, textfont={"color": DIRECTION}, hoverinfo="skip",
    )  # fmt: skip


def _arrow(figure: go.Figure, view: Scatter) -> None:
    assert view.arrow is not None
    start, end = view.arrow
    figure.add_annotation(
        x=end[0], y=end[1], ax=start[0], ay=start[1], xref="x", yref="y", axref="x", ayref="y", text="",
        showarrow=True, arrowhead=3, arrowsize=1.1, arrowwidth=3, arrowcolor=DIRECTION,
    )  # fmt: skip
    figure.add_annotation(
        x=end[0], y=end[1], text="refusal", showarrow=False, yshift=13,
        font={"color": DIRECTION, "size": 13, "shadow": "auto"},
    )  # fmt: skip


def axis_base(view: str) -> dict:
    """What all flat figures share."""
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


def short(prompt: str, most: int = 16) -> str:
    """A prompt's name for a place with little room, as text."""
    return _text(_short(prompt, most))


def _short(prompt: str, most: int = 16) -> str:
    name = prompt.removeprefix("text:")
    return name if len(name) <= most else name[: most - 1] + "…"


@lru_cache(maxsize=8192)
def wrapped(text: str) -> str:
    """A query for a hover label: in lines, markup shown as text."""
    # Plotly reads a few tags in labels: what a visitor typed is text.
    lines = textwrap.wrap(text, _WIDTH_OF_HOVER, max_lines=6, placeholder=" …") or [""]
    return "<br>".join(_text(line) for line in lines)


def named(prompt: str) -> str:
    """A prompt's name for a hover label, where it is also put into templates."""
    return _text(_short(prompt, 200))


def _text(told: str) -> str:
    # `%{` begins a field of plotly's templates; as an entity it is only read when it is drawn.
    return html.escape(told).replace("%{", "&#37;{")


def numbers(values: np.ndarray) -> list:
    """Plain numbers for a figure, nothing where there is none."""
    # Plain short numbers: plotly would send arrays as base64, which is opaque and no shorter here.
    return [None if v != v else round(float(v), 3) for v in values]
