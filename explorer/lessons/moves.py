"""Step 4: what a human prompt moves, and in which direction on this model."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explorer.lessons import drawing, text
from explorer.lessons.material import Material
from explorer.lessons.step import Choice, Chosen, Question, Step, Target
from explorer.views import Cloud

NEAR = 2.0
"""Points of refusal rate within which two prompts count as alike."""
_ALIKE = 0.15
"""The groups move alike where their moves' lengths differ by less than this share."""
_BEFORE = ("template", "none")
_AFTER = ("default", "mistral", "short", "template+short")


def _controls(material: Material):
    made = []
    for key, label, wanted in (("before", text.MOVES_FROM, _BEFORE), ("after", text.MOVES_TO, _AFTER)):
        names = [name for name in wanted if name in material.clouds]
        options = [(text.PROMPT_NAMES[name], name) for name in names]
        made.append(Choice(key, label, options, names[0], many=True, half=True))
    return made


def _clouds(material: Material, chosen: Chosen) -> tuple[Cloud, Cloud]:
    return material.clouds[chosen["before"]], material.clouds[chosen["after"]]


def refused(cloud: Cloud, harmful: bool = True) -> float:
    """Mean refusal rate of one class."""
    return float(cloud.refusal_rate[cloud.harmful == harmful].mean())


def direction(before: float, after: float) -> str:
    """ "more", "less" or "same": what happened to a refusal rate."""
    change = round(100 * (after - before), 6)
    return "same" if abs(change) <= NEAR else "more" if change > 0 else "less"


def _draw(material: Material, chosen: Chosen) -> go.Figure:
    made = drawing.figure("moves")
    before, after = _clouds(material, chosen)
    start, end = before.coordinates[:, :2], after.coordinates[:, :2]
    across, along = drawing.room(material.geometry.anchors[:, :2])
    for harmful in (True, False):
        rows, kind, colour = before.harmful == harmful, drawing.KINDS[harmful], drawing.COLOURS[harmful]
        made.add_trace(drawing.points(
            drawing.links(start[rows], end[rows]), mode="lines", hoverinfo="skip", opacity=0.3,
            line={"color": colour, "width": 1},
        ))  # fmt: skip
        for cloud, xy, faint in ((before, start, 0.2), (after, end, 0.7)):
            made.add_trace(drawing.points(
                xy[rows], opacity=faint,
                customdata=[drawing.wrapped(q) for q, kept in zip(cloud.queries, rows, strict=True) if kept],
                hovertemplate="%{customdata}<extra>" + f"{kind}, {cloud.prompt}</extra>",
                marker={"color": colour, "size": 8, "symbol": drawing.shapes_of(cloud.refusal_rate[rows])},
            ))  # fmt: skip
    drawing.legend(made, refusals=True)
    for harmful in (True, False):
        rows = before.harmful == harmful
        ends = start[rows].mean(axis=0), end[rows].mean(axis=0)
        drawing.arrow(made, *ends, drawing.COLOURS[harmful])
    solved = bool(chosen.get("solved"))
    rates = [100 * refused(cloud) if solved else 0 for cloud in (after, before)]
    made.add_trace(go.Bar(
        x=drawing.numbers(rates), y=[after.prompt, before.prompt], orientation="h", xaxis="x2", yaxis="y2",
        marker={"color": drawing.HARMFUL}, showlegend=False, width=0.6,
        text=[f"{rate:.0f}%" if solved else "" for rate in rates], textposition="outside",
        hoverinfo="skip", cliponaxis=False,
    ))  # fmt: skip
    if not solved:
        made.add_annotation(x=0.5, y=0.5, xref="x2 domain", yref="y2 domain", showarrow=False,
                            text=f"? ({text.MOVES_COVERED})", font={"size": drawing.TYPE})  # fmt: skip
    explained = material.geometry.explained
    made.update_layout(
        xaxis=drawing.axis(f"component 1 ({explained[0]:.0%})", *across),
        yaxis=drawing.axis(f"component 2 ({explained[1]:.0%})", *along, domain=[0.36, 1.0]),
        xaxis2=drawing.axis(text.MOVES_REFUSED, 0, 100, anchor="y2"),
        yaxis2=drawing.axis("", -0.5, 1.5, domain=[0.0, 0.17], anchor="x2"),
    )  # fmt: skip
    return made


def _lengths(material: Material, chosen: Chosen) -> tuple[float, float]:
    """How far the means of the harmful and of the harmless anchors move, over all components."""
    before, after = _clouds(material, chosen)
    moved = after.coordinates - before.coordinates
    one, other = (moved[before.harmful == kind].mean(axis=0) for kind in (True, False))
    return float(np.linalg.norm(one)), float(np.linalg.norm(other))


def _notice(material: Material, chosen: Chosen) -> str:
    harmful, harmless = _lengths(material, chosen)
    alike = abs(harmful - harmless) <= _ALIKE * max(harmful, harmless)
    told = text.MOVES_NOTICE if alike else text.MOVES_NOTICE_UNLIKE
    return told.format(harmful=harmful, harmless=harmless)


def _question(material: Material, chosen: Chosen) -> Question:
    before, after = _clouds(material, chosen)
    rates = refused(before), refused(after)
    way = direction(*rates)
    kept = way == "less" and "template" in before.prompt and "template" in after.prompt
    moral = text.MOVES_MORAL["less with it" if kept else way]
    why = text.MOVES_WHY.format(before=rates[0], after=rates[1], moral=moral)
    return Question(
        text.MOVES_ASK.format(before=before.prompt, after=after.prompt),
        tuple(option.format(near=NEAR) for option in text.MOVES_OPTIONS),
        ("more", "less", "same").index(way), why, text.MOVES_HINT,
    )  # fmt: skip


def _target(material: Material, chosen: Chosen) -> Target:
    return Target("explore", prompts=(chosen["before"], chosen["after"]))


STEP = Step(
    text.MOVES_NAME, text.MOVES_TITLE, lambda material: text.MOVES_SAYS, text.MOVES_FIGURE, _controls, _draw,
    _notice, _question, _target,
)  # fmt: skip
