"""How prompts compare, as plotly figures: arrays in, figure out."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explorer.figures import axis_base, named, numbers, short
from explorer.prompt_views import Shifts

AGREEMENT = [[0.0, "#2166ac"], [0.5, "#f5f5f5"], [1.0, "#b35806"]]
"""From opposite to alike, blue to brown: told apart by everybody; the numbers in the cells say it again."""


def similarity(view: Shifts) -> go.Figure:
    """Cosines between prompts' mean shifts, written in their cells; lengths stand behind the names."""
    names = [named(prompt) for prompt in view.prompts]
    across = [short(prompt) for prompt in view.prompts]
    up = [f"{name} · {length:.2f}" for name, length in zip(across, view.lengths, strict=True)]
    written = [["–" if np.isnan(value) else f"{value:+.2f}" for value in row] for row in view.cosines]
    figure = go.Figure(
        go.Heatmap(
            x=names, y=names, z=[numbers(row) for row in view.cosines], text=written, texttemplate="%{text}",
            zmin=-1, zmax=1, colorscale=AGREEMENT, xgap=2, ygap=2, name="cosine", textfont={"size": 13},
            showscale=False,
            hovertemplate="%{y} and %{x}: cosine %{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(axis_base("similarity"), dragmode=False)
    bare = {"type": "category", "tickmode": "array", "tickvals": names, "showgrid": False}
    figure.update_xaxes(bare, ticktext=across, side="top")
    figure.update_yaxes(bare, ticktext=up, autorange="reversed")
    figure.update_layout(margin={"t": 40, "b": 12})
    return figure
