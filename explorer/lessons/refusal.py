"""Step 5: logistic regression, fitted here and now on two components, and the refusal direction."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explorer.lessons import drawing, text
from explorer.lessons.material import Material
from explorer.lessons.numbers import Line, binned, expit, logistic_line, ranked_right, slope_of_rates
from explorer.lessons.step import Choice, Chosen, Question, Step, Target
from explorer.views import Cloud

_PROMPTS = ("template", "default", "none")
_BINS = 8


def _controls(material: Material):
    names = [name for name in _PROMPTS if name in material.clouds]
    return [
        Choice("prompt", text.REFUSAL_PROMPT, [(text.PROMPT_NAMES[name], name) for name in names], names[0],
               many=True, half=True),
        Choice("asked", text.REFUSAL_FOR, text.REFUSAL_FOR_CHOICES, "refused", half=True),
    ]  # fmt: skip


def _fitted(material: Material, chosen: Chosen) -> tuple[Cloud, np.ndarray, np.ndarray, Line]:
    """The anchors, their places on two components, the targets, and the line found for these."""
    cloud = material.clouds[chosen["prompt"]]
    xy = cloud.coordinates[:, :2]
    targets = cloud.refusal_rate if chosen["asked"] == "refused" else 1 - cloud.refusal_rate
    return cloud, xy, targets, logistic_line(xy, targets)


def _draw(material: Material, chosen: Chosen) -> go.Figure:
    made = drawing.figure("refusal")
    cloud, xy, targets, line = _fitted(material, chosen)
    explained = material.geometry.explained
    across, along = drawing.room(material.geometry.anchors[:, :2], 0.02)
    for harmful in (True, False):
        rows, kind, colour = cloud.harmful == harmful, drawing.KINDS[harmful], drawing.COLOURS[harmful]
        data = [
            [drawing.wrapped(query), f"refused in {rate:.0%} of its answers"]
            for query, rate, kept in zip(cloud.queries, cloud.refusal_rate, rows, strict=True)
            if kept
        ]
        made.add_trace(drawing.points(
            xy[rows], customdata=data, opacity=0.6,
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>" + kind + "</extra>",
            marker={"color": colour, "size": 9, "symbol": drawing.shapes_of(cloud.refusal_rate[rows])},
        ))  # fmt: skip
    drawing.legend(made, refusals=True)
    unit = line.normal / np.linalg.norm(line.normal)
    centre = xy.mean(axis=0)
    foot = centre - line.sides(centre[None])[0] / np.linalg.norm(line.normal) * unit
    aside = np.array([-unit[1], unit[0]]) * 400
    made.add_trace(drawing.points(np.stack([foot - aside, foot + aside]), mode="lines", hoverinfo="skip",
                                  line={"color": drawing.DIRECTION, "width": 3, "dash": "dash"}))  # fmt: skip
    tip = foot + unit * 0.3 * (along[1] - along[0])
    drawing.arrow(made, foot, tip, drawing.DIRECTION)
    drawing.label(made, tip + 0.06 * unit * (along[1] - along[0]), "<b>w</b>", drawing.DIRECTION, 20)
    scores = line.sides(xy)
    reach = float(np.abs(scores).max()) * 1.1
    curve = np.linspace(-reach, reach, 60)
    made.add_trace(go.Scatter(x=drawing.numbers(curve), y=drawing.numbers(100 * expit(curve)), mode="lines",
                              xaxis="x2", yaxis="y2", hoverinfo="skip", showlegend=False,
                              line={"color": drawing.DIRECTION, "width": 3}))  # fmt: skip
    middle, observed = binned(scores, targets, _BINS)
    made.add_trace(go.Scatter(
        x=drawing.numbers(middle), y=drawing.numbers(100 * observed), mode="markers", xaxis="x2", yaxis="y2",
        showlegend=False, marker={"size": 12, "color": drawing.QUERY, "symbol": "octagon",
                                  "line": {"width": 1.5, "color": "#222222"}},
        hovertemplate=f"{len(xy) // _BINS} questions: %{{y:.0f}}% {chosen['asked']}<extra></extra>",
    ))  # fmt: skip
    made.update_layout(
        xaxis=drawing.axis(f"component 1 ({explained[0]:.0%})", *across),
        yaxis=drawing.axis(f"component 2 ({explained[1]:.0%})", *along, domain=[0.38, 1.0], scaleanchor="x"),
        xaxis2=drawing.axis(text.REFUSAL_SCORE, -reach, reach, anchor="y2"),
        yaxis2=drawing.axis(text.REFUSAL_LIKELY[chosen["asked"]], -4, 104, domain=[0.0, 0.21], anchor="x2",
                            nticks=4),
    )  # fmt: skip
    return made


def _notice(material: Material, chosen: Chosen) -> str:
    cloud, xy, targets, line = _fitted(material, chosen)
    own = material.geometry.refusal_logits(cloud.coordinates)
    assert own is not None
    return text.REFUSAL_NOTICE.format(
        two=ranked_right(line.sides(xy), targets), all=ranked_right(own, cloud.refusal_rate),
        m=material.geometry.m,
    )  # fmt: skip


def _question(material: Material, chosen: Chosen) -> Question:
    cloud, xy, _, line = _fitted(material, chosen)
    slope = slope_of_rates(line, xy, cloud.refusal_rate)
    _, seen = binned(line.sides(xy), cloud.refusal_rate, _BINS)
    asked = {value: label for label, value in text.REFUSAL_FOR_CHOICES}[chosen["asked"]]
    return Question(
        text.REFUSAL_ASK, text.REFUSAL_OPTIONS, 0 if slope > 0 else 1,
        text.REFUSAL_WHY.format(asked=asked, low=float(seen[0]), high=float(seen[-1])), text.REFUSAL_HINT,
    )  # fmt: skip


def _target(material: Material, chosen: Chosen) -> Target:
    return Target("explore", prompts=(chosen["prompt"],), axes="probes", colour="refusal")


STEP = Step(
    text.REFUSAL_NAME, text.REFUSAL_TITLE, lambda material: text.REFUSAL_SAYS, text.REFUSAL_FIGURE, _controls,
    _draw, _notice, _question, _target,
)  # fmt: skip
