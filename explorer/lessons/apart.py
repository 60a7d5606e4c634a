"""Step 3: harmful and harmless anchors lie apart before any prompt or training."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explorer.lessons import drawing, text
from explorer.lessons.material import Material
from explorer.lessons.numbers import Line, clipped, dividing_line, left_over, own_side
from explorer.lessons.step import Choice, Chosen, Question, Step, Target
from explorer.views import Cloud

_PAIRS = ((1, 2), (3, 4), (5, 6))
_CLEAR = 0.7
"""Share on the right side from which the groups count as apart in a picture."""
_BINS = 15
"""Bars of distances on either side of the line."""
_PROMPTS = ("none", "template", "default")


def _controls(material: Material):
    m = material.geometry.m
    prompts = [name for name in _PROMPTS if name in material.clouds]
    pairs = [pair for pair in _PAIRS if max(pair) <= m]
    return [
        Choice("axes", text.APART_AXES, [(f"{a}, {b}", f"{a},{b}") for a, b in pairs], "1,2", half=True),
        Choice("prompt", text.APART_PROMPT, [(text.PROMPT_NAMES[name], name) for name in prompts],
               prompts[0], many=True, half=True),
    ]  # fmt: skip


def _axes(chosen: Chosen) -> tuple[int, int]:
    first, second = (int(part) for part in chosen["axes"].split(","))
    return first, second


def _seen(material: Material, chosen: Chosen) -> tuple[Cloud, np.ndarray, Line]:
    cloud, (first, second) = material.clouds[chosen["prompt"]], _axes(chosen)
    xy = cloud.coordinates[:, [first - 1, second - 1]]
    return cloud, xy, dividing_line(xy, cloud.harmful)


def _draw(material: Material, chosen: Chosen) -> go.Figure:
    made = drawing.figure(f"apart {chosen['axes']}")
    cloud, xy, line = _seen(material, chosen)
    explained, shown = material.geometry.explained, _axes(chosen)
    everyone = material.geometry.anchors[:, [shown[0] - 1, shown[1] - 1]]
    across, along = drawing.room(everyone)
    distance = line.sides(xy) / np.linalg.norm(line.normal)
    reach = float(np.abs(distance).max()) * 1.05
    edges = np.linspace(-reach, reach, 2 * _BINS + 1)
    tallest = max(np.histogram(distance[cloud.harmful == kind], edges)[0].max() for kind in (True, False))
    for harmful in (True, False):
        rows, kind, colour = cloud.harmful == harmful, drawing.KINDS[harmful], drawing.COLOURS[harmful]
        made.add_trace(drawing.points(
            xy[rows], name=kind, showlegend=True,
            customdata=[drawing.wrapped(q) for q, kept in zip(cloud.queries, rows, strict=True) if kept],
            hovertemplate="%{customdata}<extra>" + kind + "</extra>",
            marker={"color": colour, "size": 9, "symbol": "octagon" if harmful else "octagon-open",
                    "opacity": 0.85, "line": {"width": 1.6, "color": colour}},
        ))  # fmt: skip
        made.add_trace(go.Histogram(
            x=drawing.numbers(distance[rows]), xaxis="x2", yaxis="y2", marker={"color": colour}, opacity=0.6,
            xbins={"start": -reach, "end": reach, "size": reach / _BINS}, showlegend=False,
            hovertemplate="%{y} " + kind + "<extra></extra>",
        ))  # fmt: skip
    means = np.stack([xy[cloud.harmful].mean(axis=0), xy[~cloud.harmful].mean(axis=0)])
    made.add_trace(drawing.points(
        means, mode="lines+markers", hoverinfo="skip", line={"color": drawing.GREY, "width": 2},
        marker={"size": 16, "symbol": "square", "color": [drawing.HARMFUL, drawing.HARMLESS],
                "line": {"width": 2, "color": "#ffffff"}},
    ))  # fmt: skip
    made.add_trace(drawing.points(clipped(line, across, along), mode="lines", hoverinfo="skip",
                                  line={"color": drawing.DIRECTION, "width": 3, "dash": "dash"}))  # fmt: skip
    made.add_shape(type="line", x0=0, x1=0, y0=0, y1=1, xref="x2", yref="y2 domain",
                   line={"color": drawing.DIRECTION, "width": 3, "dash": "dash"})  # fmt: skip
    titles = [f"component {i} ({explained[i - 1]:.0%})" for i in shown]
    made.update_layout(
        xaxis=drawing.axis(titles[0], *across), yaxis=drawing.axis(titles[1], *along, domain=[0.38, 1.0]),
        xaxis2=drawing.axis("distance from the dashed line", -reach, reach, anchor="y2"),
        yaxis2=drawing.axis("questions", 0, 1.1 * tallest, domain=[0.0, 0.2], anchor="x2", nticks=4),
        barmode="overlay",
    )  # fmt: skip
    return made


def _notice(material: Material, chosen: Chosen) -> str:
    cloud, xy, line = _seen(material, chosen)
    right, count = own_side(line, xy, cloud.harmful), len(xy)
    moral = text.APART_MORALS[right >= _CLEAR * count]
    return text.APART_NOTICE.format(right=right, count=count, coin=count // 2, moral=moral)


def _question(material: Material, chosen: Chosen) -> Question:
    explained, shown = material.geometry.explained, _axes(chosen)
    left, whole = left_over(explained, shown), float(explained.sum())
    told = {f"{value:.0%}" for value in (1 - left, whole, 1 - whole, (1 - left) / whole)} - {f"{left:.0%}"}
    options = sorted({*told, f"{left:.0%}"}, key=lambda option: int(option[:-1]))
    why = text.APART_WHY.format(first=shown[0], second=shown[1], shown=1 - left, left=left, all=whole,
                                m=material.geometry.m)  # fmt: skip
    return Question(text.APART_ASK, tuple(options), options.index(f"{left:.0%}"), why, text.APART_HINT)


def _target(material: Material, chosen: Chosen) -> Target:
    return Target("explore", prompts=(chosen["prompt"],))


def _says(material: Material) -> str:
    count = len(next(iter(material.clouds.values())).queries)
    size = len(material.pairs[0][0].state)
    return text.APART_SAYS.format(count=count, m=material.geometry.m, size=size)


STEP = Step(
    text.APART_NAME, text.APART_TITLE, _says, text.APART_FIGURE, _controls, _draw, _notice, _question, _target
)
