"""Step 6: a recorded run: the watched queries after every step, and the loss."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from explorer.lessons import drawing, text
from explorer.lessons.material import Material, ShortRun
from explorer.lessons.step import Choice, Chosen, Question, Slide, Step, Target

_APART = 0.3
"""Logits by which harmful queries must have moved farther than harmless ones to count as told apart."""


def _controls(material: Material):
    run = material.run
    rows = range(len(run.queries))
    order = sorted(rows, key=lambda row: (run.trained[row], run.harmful[row]))
    options = [(_told(run, row), row) for row in order]
    # The one that training served worst teaches most.
    first = max(rows, key=lambda row: (not run.harmful[row], not run.trained[row], run.moved(row, run.steps)))
    return [
        Slide("step", text.TRAIN_STEP, 0, run.steps, 1, run.steps),
        Choice("query", text.TRAIN_QUERY, options, first, many=True),
    ]


def _told(run: ShortRun, row: int) -> str:
    seen = text.LEGEND_TRAINED if run.trained[row] else text.LEGEND_UNSEEN
    start = textwrap.shorten(run.queries[row], 40, placeholder=" …")
    return f"{start} ({drawing.KINDS[bool(run.harmful[row])]}, {seen})"


def _at(material: Material, chosen: Chosen) -> tuple[ShortRun, int, int]:
    run = material.run
    query = int(np.clip(int(chosen["query"]), 0, len(run.queries) - 1))
    return run, int(np.clip(int(chosen["step"]), 0, run.steps)), query


def _draw(material: Material, chosen: Chosen) -> go.Figure:
    made = drawing.figure("training")
    run, step, query = _at(material, chosen)
    start, now = run.frames[0], run.frames[step]
    across, along = drawing.room(run.frames.reshape(-1, 2))
    for harmful in (True, False):
        rows, kind, colour = run.harmful == harmful, drawing.KINDS[harmful], drawing.COLOURS[harmful]
        made.add_trace(drawing.points(
            drawing.links(start[rows], now[rows]), mode="lines", hoverinfo="skip", opacity=0.4,
            line={"color": colour, "width": 1.5},
        ))  # fmt: skip
        made.add_trace(drawing.points(
            now[rows],
            customdata=[[drawing.wrapped(run.queries[row]), int(row)] for row in np.flatnonzero(rows)],
            hovertemplate="%{customdata[0]}<br>f_r %{x:.2f}<extra>" + kind + "</extra>",
            marker={"color": colour, "size": 11, "line": {"width": 2, "color": colour},
                    "symbol": ["octagon" if t else "octagon-open" for t in run.trained[rows]]},
        ))  # fmt: skip
    drawing.legend(made, trained=True)
    ringed = np.stack([start[query], now[query]])
    made.add_trace(drawing.points(ringed, mode="lines+markers", hoverinfo="skip",
                                  line={"color": drawing.QUERY, "width": 3},
                                  marker={"size": [8, 24], "symbol": "octagon-open", "color": drawing.QUERY,
                                          "line": {"width": 3}}))  # fmt: skip
    made.add_shape(type="line", x0=0, x1=0, y0=0, y1=1, xref="x", yref="y domain",
                   line={"color": drawing.DIRECTION, "width": 2, "dash": "dash"})  # fmt: skip
    steps = np.arange(1, run.steps + 1)
    made.add_trace(go.Scatter(x=steps.tolist(), y=drawing.numbers(run.loss), mode="lines", xaxis="x2",
                              yaxis="y2", showlegend=False, line={"color": drawing.DIRECTION, "width": 2.5},
                              hovertemplate="step %{x}: %{y:.2f}<extra></extra>"))  # fmt: skip
    seen = step or None
    made.add_trace(go.Scatter(x=[seen], y=[float(run.loss[step - 1]) if seen else None], mode="markers",
                              xaxis="x2", yaxis="y2", showlegend=False, hoverinfo="skip",
                              marker={"size": 15, "color": drawing.QUERY, "symbol": "octagon",
                                      "line": {"width": 1.5, "color": "#222222"}}))  # fmt: skip
    made.update_layout(
        xaxis=drawing.axis("refusal f_r (trained on)", *across),
        yaxis=drawing.axis("harmfulness f_h", *along, domain=[0.36, 1.0]),
        xaxis2=drawing.axis("step", 0, run.steps + 1, anchor="y2"),
        yaxis2=drawing.axis("loss", 0, float(run.loss.max()) * 1.1, domain=[0.0, 0.19], anchor="x2",
                            nticks=4),
    )  # fmt: skip
    return made


def _mean_moves(run: ShortRun, step: int) -> tuple[float, float]:
    """Mean f_r(xθ) − f_r(x0) of the harmful and of the harmless watched queries."""
    moved = run.frames[step, :, 0] - run.frames[0, :, 0]
    return float(moved[run.harmful].mean()), float(moved[~run.harmful].mean())


def _notice(material: Material, chosen: Chosen) -> str:
    run, step, _ = _at(material, chosen)
    harmful, harmless = _mean_moves(run, step)
    gap = harmful - harmless
    moral = "start" if step == 0 else "apart" if gap > _APART else "wrong" if gap < -_APART else "together"
    return text.TRAIN_NOTICE.format(step=step, harmful=harmful, harmless=harmless,
                                    moral=text.TRAIN_MORAL[moral])  # fmt: skip


def _question(material: Material, chosen: Chosen) -> Question:
    run, step, query = _at(material, chosen)
    moved, harmful = run.moved(query, step), bool(run.harmful[query])
    sign = int(np.sign(moved))
    wanted = None if sign == 0 else (sign > 0) == harmful
    right = {(1, True): 0, (1, False): 1, (-1, True): 2, (-1, False): 3, (0, None): 4}[sign, wanted]
    kind = drawing.KINDS[harmful]
    why = text.TRAIN_WHY.format(sign=text.TRAIN_SIGNS[sign], way=text.TRAIN_WAYS[sign], kind=kind,
                                wanted=text.TRAIN_WANTED[wanted])  # fmt: skip
    return Question(text.TRAIN_ASK.format(kind=kind, step=step, moved=moved), text.TRAIN_OPTIONS, right, why,
                    text.TRAIN_HINT)  # fmt: skip


def _click(data: Any, chosen: Chosen) -> dict[str, Any]:
    """Follow the question that was clicked."""
    row = data[1] if isinstance(data, list) and len(data) == 2 else None
    return {"query": row} if isinstance(row, int) and row >= 0 else {}


def _target(material: Material, chosen: Chosen) -> Target:
    return Target("optimise", preset="quick")


def _says(material: Material) -> str:
    run = material.run
    return text.TRAIN_SAYS.format(steps=run.steps, batch=run.batch, init=run.init)


STEP = Step(
    text.TRAIN_NAME, text.TRAIN_TITLE, _says, text.TRAIN_FIGURE, _controls, _draw, _notice, _question,
    _target, click=_click,
)  # fmt: skip
