"""Step 1: what a hidden state is. Two real states of the default model, every number of them."""

from __future__ import annotations

import html

import numpy as np
import plotly.graph_objects as go

from explorer.lessons import drawing, text
from explorer.lessons.material import Material, Whole
from explorer.lessons.numbers import blocks
from explorer.lessons.step import Choice, Chosen, Question, Step, Target

_SCALE = [[0.0, "#5e3c99"], [0.25, "#9a86c4"], [0.5, "#c9c9c9"], [0.75, "#f0b44c"], [1.0, "#c65d00"]]
"""Purple to orange through grey: read by colour-blind eyes, and on both grounds."""


def _controls(material: Material):
    options = [(harmful.word, index) for index, (harmful, _) in enumerate(material.pairs)]
    return [Choice("pair", text.STATE_PAIR, options, 0)]


def _pair(material: Material, chosen: Chosen) -> tuple[Whole, Whole]:
    return material.pairs[int(chosen["pair"])]


def _draw(material: Material, chosen: Chosen) -> go.Figure:
    made = drawing.figure("state")
    pair = _pair(material, chosen)
    rows, columns = blocks(len(pair[0].state))
    most = float(np.percentile(np.abs([whole.state for whole in pair]), 97))
    for place, whole in enumerate(pair):
        axis = "" if place == 0 else "2"
        made.add_trace(go.Heatmap(
            z=[drawing.numbers(row) for row in whole.state.reshape(rows, columns)], zmin=-most, zmax=most,
            colorscale=_SCALE, xaxis=f"x{axis}", yaxis=f"y{axis}", xgap=1, ygap=1, showscale=False,
            customdata=np.arange(1, rows * columns + 1).reshape(rows, columns).tolist(),
            hovertemplate="number %{customdata}: %{z:.2f}<extra></extra>",
        ))  # fmt: skip
        told = drawing.wrapped(f"{drawing.KINDS[whole.harmful]}: {whole.query}", 50)
        made.add_annotation(
            text=told, showarrow=False, x=0, xref="paper", xanchor="left", align="left", yref="paper",
            y=1.0 if place == 0 else 0.46, yanchor="bottom", font={"size": 12},
        )  # fmt: skip
    bare = {"visible": False, "fixedrange": True}
    made.update_layout(
        xaxis=bare, xaxis2=bare, yaxis=bare | {"domain": [0.56, 1.0], "autorange": "reversed"},
        yaxis2=bare | {"domain": [0.0, 0.44], "anchor": "x2", "autorange": "reversed"},
        margin={"l": 6, "r": 6, "t": 44, "b": 6}, dragmode=False,
    )  # fmt: skip
    return made


def _notice(material: Material, chosen: Chosen) -> str:
    one, other = _pair(material, chosen)
    same = int((np.sign(one.state) == np.sign(other.state)).sum())
    return text.STATE_NOTICE.format(same=same, size=len(one.state))


def _question(material: Material, chosen: Chosen) -> Question:
    whole = _pair(material, chosen)[0]
    size, words = len(whole.state), len(whole.query.split())
    options = sorted({size, 2 * size, size // 2, 2 * words})
    return Question(
        text.STATE_ASK.format(words=words, more=2 * words), tuple(f"{option:,}" for option in options),
        options.index(size), text.STATE_WHY.format(size=size), text.STATE_HINT,
    )  # fmt: skip


def _target(material: Material, chosen: Chosen) -> Target:
    return Target("explore", query=_pair(material, chosen)[1].query, prompts=("none",))


def _says(material: Material) -> str:
    return text.STATE_SAYS + text.INTRO.format(model=html.escape(material.model))


STEP = Step(
    text.STATE_NAME, text.STATE_TITLE, _says, text.STATE_FIGURE, _controls, _draw,
    _notice, _question, _target,
)  # fmt: skip
