"""Assembles the page: header, tabs, the clock that follows loading and runs, and the programs' interface."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer import api, cards, text
from explorer.events import QUICK
from explorer.page import Page
from explorer.service import Service
from explorer.session import Session
from explorer.tabs import evaluate, explore, gallery, layers, learn, model, optimise, sharing, trying


def build(service: Service, name: str, precision: str, tools: bool = False) -> gr.Blocks:
    """The page as one gr.Blocks, wired to `service`.

    name, precision: of the model asked for. tools: what programs can ask is offered as tools, too.
    """
    with Page(title=text.TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        with gr.Row(elem_id="head"):
            gr.HTML(f"<h1>{text.TITLE}</h1> <p>{text.TAGLINE}</p>", elem_id="title", scale=5, min_width=300)
            status = gr.HTML(_status(service), elem_id="status", scale=3, min_width=260)
        share = sharing.sharing()
        known = gr.State("")
        with gr.Tabs() as tabs:
            with gr.Tab("Explore", id="explore"):
                exploring = explore.build(service)
            with gr.Tab("Optimise", id="optimise"):
                optimising = optimise.build(service)
            with gr.Tab("Evaluate", id="evaluate-tab"):
                evaluated = evaluate.build(service, status)
            with gr.Tab("Layers", id="layers") as layers_tab:
                layered = layers.build(service, layers_tab)
            with gr.Tab("Learn", id="learn"):
                learning = learn.build()
            with gr.Tab("Model", id="model"):
                modelling = model.build(service, name, precision)
        exploring.ticked(gallery.wire(
            service, exploring.gallery, exploring.chosen[0], exploring.prompts, optimising.keys,
            optimising.run, known.change, lambda now: explore.choices(service, now),
        ))  # fmt: skip
        sharing.wire(service, page, share, tabs, exploring, optimising, layered)
        api.build(service, tools)
        if learning is not None:
            trying.wire(service, learning, tabs, exploring, optimising, evaluated)

        def tick(
            session: Session, ticked: list[str], axes: str, colour: str, run: str, seen: Any, known: str,
            asked: list[str], preset: str, *settings: Any,
        ):  # fmt: skip
            """One look: what has not changed since the last one is left alone."""
            now = service.fingerprint()
            changed = now != known and session.begun
            fitting = service.stage.kind == "fitting"
            page_wide = [gr.skip()] * 14
            if changed:
                offered = service.prompt_names()
                page_wide = [
                    now, model.health_html(service), gr.Button(visible=service.fit_wanted),
                    gr.Button(visible=fitting),
                    gr.Dropdown(optimise.labels(service), visible=bool(service.run_names())),
                    optimise.expected_html(service, preset, settings),
                    gr.CheckboxGroup(offered, value=[name for name in asked if name in offered]),
                    *explore.refreshed(service, session, ticked, axes, colour),
                ]  # fmt: skip
            return [_status(service), *page_wide, *optimise.follow(service, run, seen)]

        def use(session: Session, ticked: list[str], axes: str, colour: str, seen: Any):
            return (
                gr.Tabs(selected="explore"),
                *explore.refreshed(service, session, [*ticked, seen[0]], axes, colour),
            )

        refreshed = [exploring.prompts, *exploring.picture]
        looked = [
            status, known, modelling.health, modelling.fit, modelling.cancel, optimising.runs,
            optimising.expected, evaluated, *refreshed,
            *optimising.following,
        ]  # fmt: skip
        told = [*exploring.chosen, optimising.run, optimising.seen, known, evaluated, *optimising.settings]
        gr.Timer(service.limits.tick).tick(tick, told, looked, **QUICK)
        exploring.catch_up(
            optimising.use.click(use, [*exploring.chosen, optimising.seen], [tabs, *refreshed], **QUICK)
        )
    return page


def _status(service: Service) -> str:
    stage = service.stage
    return cards.progress(stage.text, stage.share, stage.kind)
