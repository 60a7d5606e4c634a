"""Step 2: PCA by hand on four points that the learner can move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from explorer.lessons import drawing, text
from explorer.lessons.material import Material
from explorer.lessons.numbers import caught, components, shadows, unit
from explorer.lessons.step import Choice, Chosen, Kept, Question, Slide, Step, Target

Points = list[list[float]]
SETS: Mapping[str, Points] = {
    "rising": [[-4, -3], [-2, 0], [1, 1], [5, 2]],
    "flat": [[-5, 0], [-1, 1], [1, -1], [5, 0]],
    "falling": [[-2, 4], [-1, 1], [1, -1], [2, -4]],
    "outlier": [[-2, -1], [-2, -3], [0, -2], [4, 4]],
    "square": [[-3, -3], [-3, 3], [3, 3], [3, -3]],
}
NAMES = "ABCD"
REACH = (6.0, 4.5)
"""Points stay within ± these."""
GRID = 0.5
_TURN = 5


def _controls(material: Material):
    first = SETS["rising"]
    return [
        Choice("set", text.PCA_SETS, [(text.PCA_SET_NAMES[name], name) for name in SETS], "rising"),
        Slide("angle", text.PCA_ANGLE, 0, 180 - _TURN, _TURN, 90),
        Choice("show", text.PCA_SHOW, text.PCA_SHOW_CHOICES, "line", half=True),
        Choice("point", text.PCA_POINT, [(name, index) for index, name in enumerate(NAMES)], 0, half=True),
        Slide("x", text.PCA_X, -REACH[0], REACH[0], GRID, first[0][0], half=True),
        Slide("y", text.PCA_Y, -REACH[1], REACH[1], GRID, first[0][1], half=True),
        Kept("points", first),
    ]


def placed(points: Sequence[Sequence[float]], index: int, x: float, y: float) -> Points:
    """The points after one of them was put at (x, y), inside the picture and on its grid."""
    made = [list(point) for point in points]
    for axis, value in enumerate((x, y)):
        made[index][axis] = round(float(np.clip(value, -REACH[axis], REACH[axis])) / GRID) * GRID
    return made


def _points(chosen: Chosen) -> np.ndarray:
    return np.array(chosen["points"], dtype=np.float64)


def _draw(material: Material, chosen: Chosen) -> go.Figure:
    made = drawing.figure("pca")
    points, angle = _points(chosen), float(chosen["angle"])
    found, on_line = components(points), shadows(points, angle)
    made.add_trace(_cells())
    ends = np.stack([found.mean - 20 * unit(angle), found.mean + 20 * unit(angle)])
    made.add_trace(drawing.points(ends, mode="lines", hoverinfo="skip",
                                  line={"color": drawing.QUERY, "width": 3}))  # fmt: skip
    legs = drawing.links(points, on_line)
    made.add_trace(drawing.points(legs, mode="lines", hoverinfo="skip",
                                  line={"color": drawing.GREY, "width": 2, "dash": "dot"}))  # fmt: skip
    made.add_trace(drawing.points(on_line, hoverinfo="skip", marker={"size": 11, "color": drawing.QUERY,
                                  "symbol": "octagon-open", "line": {"width": 2.5}}))  # fmt: skip
    made.add_trace(drawing.points(found.mean[None], hovertemplate="mean<extra></extra>",
                                  marker={"size": 15, "symbol": "cross-thin", "color": drawing.GREY,
                                          "line": {"width": 3, "color": drawing.GREY}}))  # fmt: skip
    moving = [18 if index == chosen["point"] else 14 for index in range(len(points))]
    made.add_trace(drawing.points(
        points, mode="markers+text", text=list(NAMES), textposition="top center", hoverinfo="skip",
        textfont={"size": 16, "shadow": "auto"}, cliponaxis=False,
        marker={"size": moving, "color": drawing.HARMLESS, "symbol": "octagon",
                "line": {"width": [3 if s == 18 else 0 for s in moving], "color": drawing.QUERY}},
    ))  # fmt: skip
    share, best = caught(points, angle), float(found.shares[0])
    made.add_trace(go.Bar(x=[round(100 * share, 1)], y=[0], orientation="h", xaxis="x2", yaxis="y2",
                          marker={"color": drawing.QUERY}, showlegend=False, width=0.6,
                          hovertemplate=f"{text.PCA_CAUGHT} %{{x:.0f}}%<extra></extra>"))  # fmt: skip
    made.add_trace(go.Scatter(x=[round(100 * best, 1)] * 2, y=[-0.45, 0.45], xaxis="x2", yaxis="y2",
                              mode="lines", showlegend=False, hoverinfo="skip",
                              line={"color": drawing.DIRECTION, "width": 4}))  # fmt: skip
    made.add_annotation(x=100 * best, y=0.45, xref="x2", yref="y2", text=text.PCA_BEST, showarrow=False,
                        yanchor="bottom", font={"color": drawing.DIRECTION, "size": 14})  # fmt: skip
    if chosen["show"] == "components":
        for axis, variance, name in zip(found.axes, found.variance, "12", strict=True):
            tip = found.mean + axis * max(0.8, 1.6 * np.sqrt(variance))
            drawing.arrow(made, found.mean, tip, drawing.DIRECTION)
            drawing.label(made, tip + 0.35 * axis, name, drawing.DIRECTION)
    made.update_layout(
        xaxis=drawing.axis("", -REACH[0] - 0.6, REACH[0] + 0.6, fixedrange=True, dtick=2),
        yaxis=drawing.axis("", -REACH[1] - 0.6, REACH[1] + 0.6, fixedrange=True, scaleanchor="x", dtick=2,
                           domain=[0.26, 1.0]),
        xaxis2=drawing.axis(text.PCA_SHARE, 0, 103, fixedrange=True, anchor="y2"),
        yaxis2={"domain": [0.0, 0.1], "range": [-0.5, 0.5], "fixedrange": True, "anchor": "x2",
                "showticklabels": False, "showgrid": False, "zeroline": False},
        margin={"l": 30, "r": 14, "t": 14, "b": 46}, dragmode=False,
    )  # fmt: skip
    return made


def _cells() -> go.Scatter:
    """Unseen marks all over the picture: a click on one tells where it was."""
    x, y = (np.arange(-reach, reach + GRID / 2, GRID) for reach in REACH)
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return drawing.points(places, customdata=places.tolist(), hoverinfo="none", opacity=0,
                          marker={"size": 16, "symbol": "square"})  # fmt: skip


def _notice(material: Material, chosen: Chosen) -> str:
    points = _points(chosen)
    share, best = caught(points, float(chosen["angle"])), float(components(points).shares[0])
    return text.PCA_NOTICE.format(caught=share, best=best)


def _question(material: Material, chosen: Chosen) -> Question:
    found = components(_points(chosen))
    same = text.PCA_SAME
    if found.angle is None:
        angles = [0, 45, 90, 135]
        why = text.PCA_WHY_SAME.format(first=float(found.shares[0]))
        right = len(angles)
    else:
        best = round(found.angle / _TURN) * _TURN % 180
        angles = sorted({best, *((best + away) % 180 for away in (35, 90, 130))})
        right = angles.index(best)
        first, second = found.shares
        why = text.PCA_WHY.format(angle=found.angle, first=first, second=second)
    options = (*(text.PCA_ABOUT.format(angle=angle) for angle in angles), same)
    return Question(text.PCA_ASK, options, right, why, text.PCA_HINT)


def _follow(key: str, chosen: Chosen) -> dict[str, Any]:
    points, index = chosen["points"], int(chosen["point"])
    if key in ("x", "y"):
        return {"points": placed(points, index, float(chosen["x"]), float(chosen["y"]))}
    if key == "set":
        points = SETS[chosen["set"]]
    return {"points": points, "x": points[index][0], "y": points[index][1]}


def _click(data: Any, chosen: Chosen) -> dict[str, Any]:
    """Put the chosen point where the picture was clicked; a click on another point chooses that one."""
    if not (isinstance(data, list) and len(data) == 2 and all(isinstance(v, (int, float)) for v in data)):
        return {}
    points, index = chosen["points"], int(chosen["point"])
    place = placed(points, index, *data)[index]
    if place in points:
        index = points.index(place)
    else:
        points = placed(points, index, *place)
    return {"points": points, "point": index, "x": points[index][0], "y": points[index][1]}


def _target(material: Material, chosen: Chosen) -> Target:
    return Target("explore", prompts=("none",), axes="three")


STEP = Step(
    text.PCA_NAME, text.PCA_TITLE, lambda material: text.PCA_SAYS, text.PCA_FIGURE, _controls, _draw,
    _notice, _question, _target, _follow, _click,
)  # fmt: skip
