"""A plotly figure that is updated in place: the node, the zoom and the 3-D camera stay, clicks reach Python.

gr.Plot mounts a new plot at every value. Here plotly redraws the one that is there; frames that come
faster than they can be drawn are dropped, not queued. plotly.js comes from the installed package, so
nothing is fetched from elsewhere and both sides have the same version.
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import plotly

from explorer import text

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
STAYS = {"showSendToCloud": False, "plotlyServerURL": ""}
"""Plotly would offer to upload the picture, questions and all, to a service of its maker."""
_SCRIPT = f"const STAYS = {json.dumps(STAYS)};\n"
_SCRIPT += (Path(__file__).resolve().parent.parent / "assets" / "live_plot.js").read_text(encoding="utf-8")


_KINDS = ("png", "svg", "html", "csv")


def live_plot(
    label: str, value: str | None = None, height: int = 460, select: bool = False, **options
) -> gr.HTML:
    """A plot whose value is a figure's json; `label` is its name for a screen reader.

    It brings buttons that save it as png, svg, html and csv. Its event `point_click` carries the clicked
    point's customdata, and whether it is to be added to others. select: a lasso can be drawn; the event
    `points_select` carries the fourth customdata of what is inside.
    """
    gr.set_static_paths([PLOTLY_JS])  # this one file only
    return gr.HTML(
        value=value, apply_default_css=False, js_on_load=_SCRIPT,
        html_template=f"<div class='live-plot' role='figure' aria-label='{label}' "
        f"style='width:100%;height:{height}px'></div>{_tools(select, options.get('elem_id', 'figure'))}",
        head=f'<script src="gradio_api/file={PLOTLY_JS}"></script>', **options,
    )  # fmt: skip


def _tools(select: bool, name: str) -> str:
    lasso = (
        f"<button type='button' class='lasso' aria-pressed='false'>{text.LASSO}</button>" if select else ""
    )
    kinds = "".join(f"<button type='button' data-take='{k}'>{k.upper()}</button>" for k in _KINDS)
    return (
        f"<div class='plot-tools' data-file='dro-{name.removesuffix('-plot')}'>{lasso}<details>"
        f"<summary>{text.DOWNLOAD}</summary><span role='group' aria-label='{text.DOWNLOAD}'>{kinds}</span>"
        "</details></div>"
    )
