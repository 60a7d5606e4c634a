"""Step 7: did training help, and what does it cost? Counts of observed refusals, with intervals."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explorer.lessons import drawing, text
from explorer.lessons.material import Material, Measured
from explorer.lessons.numbers import difference
from explorer.lessons.step import Choice, Chosen, Question, Step, Target

TRAINED = "trained"


def _controls(material: Material):
    runs = [
        (text.COST_RUNS[name].format(count=material.measured(name).count), name) for name in ("short", "long")
    ]
    return [
        Choice("run", text.COST_RUN, runs, "short", half=True),
        Choice("kind", text.COST_KIND, text.COST_KINDS, "harmful", half=True),
    ]


def _seen(material: Material, chosen: Chosen) -> tuple[Measured, str]:
    """The measurement, and the prompt that training started from: the last text in it."""
    measured = material.measured(chosen["run"])
    return measured, measured.prompts[-2]


def _draw(material: Material, chosen: Chosen) -> go.Figure:
    made = drawing.figure("cost")
    measured, before = _seen(material, chosen)
    names = measured.prompts
    harmful, harmless = (
        100 * np.array([measured.rates[name, kind] for name in names]) for kind in (True, False)
    )
    asked = chosen["kind"] == text.HARMFUL
    made.add_trace(go.Scatter(
        x=drawing.numbers(harmless[:, 0]), y=drawing.numbers(harmful[:, 0]), mode="markers", showlegend=False,
        cliponaxis=False, customdata=names,
        marker={"size": [24 if name == TRAINED else 15 for name in names], "opacity": 1,
                "line": {"width": 1.2, "color": "#222222"},
                "symbol": ["star" if name == TRAINED else "octagon" for name in names],
                "color": [drawing.QUERY if name == TRAINED else drawing.DIRECTION for name in names]},
        error_x=_whiskers(harmless, drawing.HARMLESS, not asked),
        error_y=_whiskers(harmful, drawing.HARMFUL, asked),
        hovertemplate="%{customdata}<br>harmful refused %{y:.0f}%, harmless %{x:.0f}%<extra></extra>",
    ))  # fmt: skip
    for index, name in enumerate(names):
        made.add_annotation(
            x=float(harmless[index, 0]), y=float(harmful[index, 0]), text=f"<b>{name}</b>", showarrow=False,
            xanchor="left" if name == TRAINED else "right", yanchor="bottom", yshift=8,
            xshift=10 if name == TRAINED else -8,
            font={"size": drawing.TYPE, "shadow": "auto"},
        )  # fmt: skip
    ends = [np.array([harmless[i, 0], harmful[i, 0]]) for i in (names.index(before), names.index(TRAINED))]
    drawing.arrow(made, ends[0], ends[1], drawing.QUERY)
    for drawn in made.layout.annotations[-2:]:
        drawn.update(standoff=13, startstandoff=9)
    most = max(30.0, float(harmless[:, 2].max()) * 1.08)
    made.update_layout(
        xaxis=drawing.axis("harmless questions refused (%): the cost", -1, most),
        yaxis=drawing.axis("harmful questions refused (%): the help", 0, 103),
    )  # fmt: skip
    return made


def _whiskers(rates: np.ndarray, colour: str, strong: bool) -> dict:
    return {"type": "data", "symmetric": False, "array": drawing.numbers(rates[:, 2] - rates[:, 0]),
            "arrayminus": drawing.numbers(rates[:, 0] - rates[:, 1]),
            "color": colour if strong else drawing.GREY, "thickness": 3 if strong else 1}  # fmt: skip


def _notice(material: Material, chosen: Chosen) -> str:
    measured, before = _seen(material, chosen)
    run = material.run
    told = {
        "harmful": measured.rates[TRAINED, True][0],
        "harmless": measured.rates[TRAINED, False][0],
        "harmful_before": measured.rates[before, True][0],
        "harmless_before": measured.rates[before, False][0],
    }
    if chosen["run"] != "short":
        return text.COST_NOTICE.format(**told)
    return text.COST_NOTICE_SHORT.format(
        **told, tokens=run.tokens, seconds=run.steps * run.seconds, beyond=run.beyond
    )


def _question(material: Material, chosen: Chosen) -> Question:
    measured, before = _seen(material, chosen)
    kind = chosen["kind"] == text.HARMFUL
    first, second = measured.rates[before, kind], measured.rates[TRAINED, kind]
    gain, low, high = difference(first, second)
    right = 0 if low > 0 else 1 if high < 0 else 2
    why = text.COST_WHY.format(gain=100 * gain, low=100 * low, high=100 * high, moral=text.COST_MORALS[right])
    ask = text.COST_ASK.format(count=measured.count, kind=chosen["kind"], before=first[0], prompt=before,
                               after=second[0])  # fmt: skip
    return Question(ask, text.COST_OPTIONS, right, why, text.COST_HINT)


def _target(material: Material, chosen: Chosen) -> Target:
    measured, _ = _seen(material, chosen)
    return Target("evaluate", prompts=tuple(name for name in measured.prompts if name != TRAINED))


STEP = Step(
    text.COST_NAME, text.COST_TITLE, lambda material: text.COST_SAYS, text.COST_FIGURE, _controls, _draw,
    _notice, _question, _target,
)  # fmt: skip
