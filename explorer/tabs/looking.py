"""How the plot of Explore is looked at: other axes, a map, density, and what is selected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dro.neighbour_map import MapSettings
from explorer import cards, looking_cards, text
from explorer.events import PRIVATE, QUICK
from explorer.live_table import live_table
from explorer.messages import shown
from explorer.service import Service
from explorer.session import Session
from explorer.tabs import drawn

_FOLLOW = 0.4
"""Seconds between looks at a map that is being fitted."""


@dataclass(frozen=True)
class Controls:
    """The widgets under the plot."""

    axes: gr.Radio
    colour: gr.Radio
    pair: list[gr.Dropdown]
    pair_row: gr.Row
    map_row: gr.Column
    settings: list[Any]
    fit: gr.Button
    progress: gr.HTML
    contours: gr.Checkbox
    words: gr.Textbox


@dataclass(frozen=True)
class Side:
    """The side table of what is selected."""

    panel: gr.Column
    table: gr.HTML
    clear: gr.Button


def controls(service: Service) -> Controls:
    """Lay out what stands under the plot."""
    geometry = service.geometry()
    count = min(16, geometry.m) if geometry else 4
    components = [(str(n + 1), n) for n in range(count)]
    with gr.Group(elem_id="controls"):
        axes = gr.Radio(list(text.VIEW_CHOICES), value="components", label=text.VIEW, elem_id="axes")
        with gr.Row(visible=False, elem_id="pair-row") as pair_row:
            pair = [
                gr.Dropdown(
                    components, value=min(n, count - 1), label=label, min_width=120, elem_id=f"pair-{n}"
                )
                for n, label in enumerate((text.ACROSS, text.UP))
            ]
        with gr.Column(visible=False, elem_id="map-row") as map_row:
            with gr.Row():
                first, free = MapSettings(), service.limits.maps
                settings: list[Any] = [
                    gr.Slider(2, 100, value=first.neighbours, step=1, label=text.MAP_NEIGHBOURS,
                              min_width=150, interactive=free),
                    gr.Slider(0, 0.9, value=first.min_dist, step=0.05, label=text.MAP_DISTANCE, min_width=120,
                              interactive=free),
                    gr.Number(first.seed, label=text.MAP_SEED, precision=0, min_width=80, interactive=free),
                ]  # fmt: skip
            fit = gr.Button(text.MAP_FIT, variant="primary", size="sm", elem_id="fit-map")
            progress = gr.HTML(elem_id="map-progress")
        colour = gr.Radio(list(text.COLOURS), value="class", label=text.COLOUR, elem_id="colour")
        with gr.Accordion(text.MORE, open=False):
            contours = gr.Checkbox(False, label=text.CONTOURS, elem_id="contours")
            words = gr.Textbox(
                label=text.FIND, placeholder=text.FIND_PLACEHOLDER, max_length=200, elem_id="find"
            )
    return Controls(axes, colour, pair, pair_row, map_row, settings, fit, progress, contours, words)


def side() -> Side:
    """Lay out the side table; nothing is there before something is selected."""
    with gr.Column(visible=False, elem_id="selection") as panel:
        with gr.Row():
            gr.HTML(f"<b>{text.SELECTED}</b>", min_width=100)
            clear = gr.Button(text.CLEAR, size="sm", min_width=100, elem_id="clear-selection")
        table = live_table(elem_id="selected")
    return Side(panel, table, clear)


def wire(
    service: Service, session: gr.State, prompts: gr.CheckboxGroup, plot: gr.HTML, legend: gr.HTML,
    caption: gr.HTML, told: gr.HTML, look: Controls, chosen: Side, describe: Callable[[Any], str],
) -> None:  # fmt: skip
    """Wire what changes the picture alone. describe: a clicked point's label."""
    drawing = [plot, legend, caption]
    asked = [session, prompts, look.axes, look.colour]
    selecting = [session, *drawing, chosen.panel, chosen.table]

    def redraw(now: Session, ticked: list[str], axes: str, colour: str) -> tuple:
        now.tick(ticked)
        return drawn.picture(service, now, axes, colour)

    def change_view(now: Session, ticked: list[str], axes: str, colour: str) -> tuple:
        rows = gr.Row(visible=axes == "pair"), gr.Column(visible=axes == "umap")
        return (*redraw(now, ticked, axes, colour), *rows)

    def change_pair(now: Session, ticked: list[str], axes: str, colour: str, across: Any, up: Any) -> tuple:
        geometry = service.geometry()
        most = geometry.m if geometry else 0
        if all(isinstance(n, int) and 0 <= n < most for n in (across, up)) and across != up:
            now.looking.pair = (across, up)
        return now, *redraw(now, ticked, axes, colour)

    def change_contours(now: Session, ticked: list[str], axes: str, colour: str, on: bool) -> tuple:
        now.looking.contours = bool(on)
        return now, *redraw(now, ticked, axes, colour)

    def selected(now: Session, ticked: list[str], axes: str, colour: str, again: bool = True) -> tuple:
        rows = drawn.picked(service, now, now.looking.selected)
        picture = redraw(now, ticked, axes, colour) if again else [gr.skip()] * 3
        return now, *picture, gr.Column(visible=bool(rows)), looking_cards.selection(rows)

    def lassoed(now: Session, ticked: list[str], axes: str, colour: str, event: gr.EventData) -> tuple:
        now.looking.selected = drawn.keys_of(_sent(event).get("keys"))
        return selected(now, ticked, axes, colour)

    def clicked(now: Session, ticked: list[str], axes: str, colour: str, event: gr.EventData) -> tuple:
        data = _sent(event)
        custom = data.get("customdata")
        found = drawn.keys_of(custom[3:4]) if isinstance(custom, list) else []
        if found and data.get("more") is True:
            kept = [each for each in now.looking.selected if each not in found]
            found = kept if len(kept) < len(now.looking.selected) else [*kept, *found]
        if found or data.get("more") is not True:
            now.looking.selected = found
        return (*selected(now, ticked, axes, colour), describe(event._data))

    def clear(now: Session, ticked: list[str], axes: str, colour: str) -> tuple:
        now.looking.selected = []
        return selected(now, ticked, axes, colour)

    def find(now: Session, ticked: list[str], axes: str, colour: str, words: str) -> tuple:
        now.tick(ticked)
        now.looking.selected = drawn.found_by_words(service, now, words)
        return selected(now, ticked, axes, colour)

    def fit(now: Session, ticked: list[str], colour: str, *told: Any) -> Iterator[tuple]:
        """Begin, or join, and follow until it is there; whoever leaves does not stop it for others."""
        with shown():
            settings = MapSettings(
                *(int(v) if isinstance(v, float) and n != 1 else v for n, v in enumerate(told))
            )
            job = service.start_map(settings)
        while not job.over:
            share = job.share if job.phase == "fitting" else 0.0
            line = f"{text.MAP_PHASES[job.phase]} ({cards.duration(time.monotonic() - job.began)})"
            yield (now, *[gr.skip()] * 3, cards.progress(line, share, "fitting"))
            time.sleep(_FOLLOW)
        if job.phase == "done":
            now.looking.map = (settings.neighbours, settings.min_dist, settings.seed)
        end = cards.progress(job.message, 0.0, "failed") if job.message else ""
        yield (now, *redraw(now, ticked, "umap", colour), end)

    # Redraws in a row: what is outdated when its turn comes is not drawn.
    latest: dict[str, Any] = {"trigger_mode": "always_last", **QUICK}
    look.axes.input(change_view, asked, [*drawing, look.pair_row, look.map_row], **latest)
    look.colour.input(redraw, asked, drawing, **latest)
    gr.on(
        [each.input for each in look.pair], change_pair, [*asked, *look.pair], [session, *drawing], **latest
    )
    look.contours.input(change_contours, [*asked, look.contours], [session, *drawing], **latest)
    look.words.submit(find, [*asked, look.words], selecting, **QUICK)
    plot.points_select(lassoed, asked, selecting, **QUICK)
    plot.point_click(clicked, asked, [*selecting, told], **QUICK)
    chosen.clear.click(clear, asked, selecting, **QUICK)
    look.fit.click(
        fit, [session, prompts, look.colour, *look.settings], [session, *drawing, look.progress],
        concurrency_limit=64, **PRIVATE,
    )  # fmt: skip


def _sent(event: gr.EventData) -> dict[str, Any]:
    """What an event brings, whoever sent it."""
    return event._data if isinstance(event._data, dict) else {}


def _settings(neighbours: Any, min_dist: Any, seed: Any) -> MapSettings:
    """A map's settings as sliders send them: whole numbers may come as floats."""
    whole = [int(v) if isinstance(v, float) and v.is_integer() else v for v in (neighbours, seed)]
    return MapSettings(whole[0], min_dist, whole[1])
