"""Model: which model is loaded, its space's health, and loading another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dro.models import PRECISIONS
from dro.registry import REGISTRY
from explorer import cards, text
from explorer.events import QUICK
from explorer.messages import shown
from explorer.service import Service, health_of, provenance_of


@dataclass(frozen=True)
class Model:
    """The widgets the page refreshes when the model changes."""

    health: gr.HTML
    fit: gr.Button
    cancel: gr.Button


def build(service: Service, model: str, precision: str) -> Model:
    """Lay out and wire the tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            listed = service.limits.models
            choices = [(f"{s.name} · {s.billions:g}B · {s.note}", s.name) for s in REGISTRY.values()
                       if listed is None or s.name in (*listed, model)]  # fmt: skip
            name = gr.Dropdown(choices, value=model, label=text.MODEL, info=text.MODEL_INFO,
                               allow_custom_value=listed is None, elem_id="model")  # fmt: skip
            how = gr.Radio(list(PRECISIONS), value=precision, label=text.PRECISION)
            load = gr.Button(text.LOAD, variant="primary", elem_id="load", visible=service.limits.loading)
            fit = gr.Button(text.FIT, visible=False, variant="primary", elem_id="fit")
            cancel = gr.Button(text.CANCEL, visible=False, variant="stop", elem_id="cancel-fit")
        with gr.Column(scale=8, min_width=340):
            gr.Markdown(f"### {text.HEALTH}")
            health = gr.HTML(health_html(service), elem_id="health")

    def load_now(name: str, how: Any) -> None:
        with shown():
            service.load(name, how)

    def fit_now() -> None:
        with shown():
            service.fit()

    load.click(load_now, [name, how], None, **QUICK)
    fit.click(fit_now, None, None, **QUICK)
    cancel.click(service.cancel_fit, None, None, **QUICK)
    return Model(health, fit, cancel)


def health_html(service: Service) -> str:
    """The report on the space that is shown, or why there is none."""
    space = service.space
    if space is None:
        return cards.quiet(service.stage.text)
    return cards.health(health_of(space), provenance_of(space))
