"""How prompts compare with each other: the directions in which they move the anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from explorer import cards, prompt_figures, prompt_views, text
from explorer.events import QUICK
from explorer.live_plot import live_plot
from explorer.service import BASE, Service
from explorer.session import Session

MOST_COMPARED = 16
"""Cells of more prompts could not be read."""


@dataclass(frozen=True)
class Similarity:
    """The widgets of the tab."""

    tab: gr.Tab
    asked: list[Any]
    """Which prompts, and which anchors."""
    drawn: list[Any]
    """What `draw` gives: plot, note."""


def similarity() -> Similarity:
    """Lay out the tab."""
    with gr.Tab(text.TAB_SIMILARITY, id="similarity") as tab:
        with gr.Row():
            which = gr.Radio(list(text.SIMILARITY_OF), value="all", label=text.SIMILARITY_PROMPTS,
                             elem_id="similarity-prompts", min_width=200)  # fmt: skip
            anchors = gr.Radio(list(text.SIMILARITY_ANCHORS), value="all", label=text.SIMILARITY_OVER,
                               elem_id="similarity-anchors", min_width=200)  # fmt: skip
        plot = live_plot(text.SIMILARITY, None, 360, elem_id="similarity-plot")
        note = gr.HTML(elem_id="similarity-note")
    return Similarity(tab, [which, anchors], [plot, note])


def wire(service: Service, made: Similarity, session: gr.State, prompts: gr.CheckboxGroup) -> None:
    """Wire it: drawn when it is opened, and again with what is ticked while it is."""

    def again(now: Session, ticked: list[str], which: str, anchors: str) -> tuple[str | None, str]:
        now.tick(ticked)
        return draw(service, now, which, anchors)

    def follow(now: Session, ticked: list[str], which: str, anchors: str) -> tuple:
        return again(now, ticked, which, anchors) if which == "ticked" else (gr.skip(), gr.skip())

    asked: list[Any] = [session, prompts, *made.asked]
    made.tab.select(again, asked, made.drawn, **QUICK)
    for each in made.asked:
        each.input(again, asked, made.drawn, trigger_mode="always_last", **QUICK)
    prompts.change(follow, asked, made.drawn, trigger_mode="always_last", **QUICK)


def draw(service: Service, session: Session, which: str, anchors: str) -> tuple[str | None, str]:
    """The heat map's json and what it says; of the ticked prompts, or of all that have states here."""
    wanted, named = (session.ticked, len(session.ticked)) if which == "ticked" else _newest(service)
    clouds = service.clouds(list(dict.fromkeys([BASE, *wanted])))
    over: prompt_views.Anchors = next((a for a in ("harmful", "harmless") if a == anchors), "all")
    view = prompt_views.shifts(clouds, BASE, over)
    if view is None:
        return None, cards.quiet(text.SIMILARITY_NONE if service.space else service.stage.text)
    known = {cloud.prompt for cloud in clouds}
    without = [cards.prompt_label(name) for name in wanted if name not in known]
    told = text.SIMILARITY_NOTE.format(base=BASE, m=view.m, anchors=over)
    if without:
        told += f" {text.SIMILARITY_WITHOUT} {', '.join(without)}."
    if len(wanted) < named:
        told += f" {text.SIMILARITY_CUT.format(most=MOST_COMPARED, named=named)}"
    return prompt_figures.similarity(view).to_json(), f"<p class='caption'>{told}</p>"


def _newest(service: Service) -> tuple[list[str], int]:
    """All prompts but the oldest runs where there are too many, and how many there are."""
    names, trained = service.prompt_names(), service.trained()
    human = [name for name in names if name not in trained]
    runs = [name for name in names if name in trained]
    return [*human, *runs[max(0, len(names) - MOST_COMPARED) :]], len(names)
