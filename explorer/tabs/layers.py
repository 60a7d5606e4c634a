"""Layers: the same anchors at every layer of the model, and what is linearly readable where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gradio as gr
import numpy as np

from dro.layers import Layers
from dro.space import Space
from explorer import cards, layer_figures, layer_views, layer_words, text
from explorer.events import QUICK
from explorer.live_plot import live_plot
from explorer.messages import shown
from explorer.service import Service

Seen = tuple[str, str, bool]
"""What the page shows: the space, the stage of loading, and whether the layers are drawn."""

_MOVE = """async (layer) => {
  const hosts = [...document.querySelectorAll('#layers-plot .live-plot, #layers-chart .live-plot')];
  const detail = {number: layer, slowly: window.droPlaying ? 350 : null};
  hosts.forEach(host => host.dispatchEvent(new CustomEvent('frame', {detail})));
  // The slider is told its place a moment before the plot, which brings the words, is drawn.
  for (let waited = 0; !hosts[0].layout?.meta && waited < 200; waited++)
    await new Promise(done => setTimeout(done, 50));
  return hosts[0].layout?.meta?.[layer] ?? '';
}"""
"""A step of the slider never leaves the browser: both plots glide, and the words of the layer are shown."""
_PLAY = """() => {
  const slider = document.querySelector('#layer input[type=range]');
  if (window.droPlaying) { clearInterval(window.droPlaying); window.droPlaying = null; return; }
  const set = value => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); };
  if (slider.value === slider.max) set(0);
  window.droPlaying = setInterval(() => {
    if (slider.value === slider.max || !slider.offsetParent) {
      clearInterval(window.droPlaying); window.droPlaying = null; return;
    }
    set(Number(slider.value) + 1);
  }, 450);
}"""


@dataclass(frozen=True)
class LayersTab:
    """The widgets others need. wanted: the layer at which the tab begins, where a link says one. draw: makes
    an event open the tab's contents, as selecting it does."""

    layer: gr.Slider
    seen: gr.State
    wanted: gr.State
    draw: Callable[[Any], None]


def build(service: Service, tab: gr.Tab) -> LayersTab:
    """Lay out and wire the tab; nothing is drawn, or sent, before it is opened."""
    seen, wanted = gr.State(None), gr.State(None)
    with gr.Column() as waiting:
        told = gr.HTML(cards.quiet(service.stage.text), elem_id="layers-status")
        read = gr.Button(text.READ_LAYERS, variant="primary", visible=False, elem_id="read-layers")
        stop = gr.Button(text.STOP_READING, variant="stop", visible=False, elem_id="stop-layers")
    with gr.Column(visible=False) as drawn:
        with gr.Row(equal_height=False):
            with gr.Column(scale=7, min_width=340):
                gr.HTML(layer_words.legend())
                plot = live_plot(text.LAYERS_PLOT, None, 372, elem_id="layers-plot")
                with gr.Row(equal_height=True):
                    layer = gr.Slider(0, 1, value=0, step=1, label=text.LAYER, elem_id="layer", scale=6,
                                      min_width=220)  # fmt: skip
                    play = gr.Button(text.LAYER_PLAY, elem_id="play-layers", scale=1, min_width=70)
                note = gr.HTML(elem_id="layer-note")
            with gr.Column(scale=5, min_width=330):
                chart = live_plot(text.LAYERS_CHART, None, 440, elem_id="layers-chart")
                summary = gr.HTML(elem_id="layers-summary")
        prompts = gr.CheckboxGroup([], label=text.LAYERS_PROMPTS, elem_id="layers-prompts")

    def look(known: Seen | None, wanted: Any = None) -> list[Any]:
        """What has changed since this page last looked."""
        now = _now(service)
        if known is not None and tuple(known) == now and now[1] != "fitting":
            return [gr.skip()] * 12
        if known is not None and known[0] == now[0] and known[2] and now[2]:
            return [now, *[gr.skip()] * 11]  # drawn already; something else is under way
        columns = [gr.Column(visible=not now[2]), gr.Column(visible=now[2])]
        if now[2]:
            return [now, *[gr.skip()] * 3, *columns, *_everything(service, wanted)]
        buttons = [gr.Button(visible=service.layers_wanted), gr.Button(visible=now[1] == "fitting")]
        return [now, _status(service), *buttons, *columns, *[gr.skip()] * 6]

    def choose(ticked: list[str]) -> Any:
        return morph_json(service, ticked) or gr.skip()

    def begin() -> None:
        with shown():
            service.read_layers()

    looked = [seen, told, read, stop, waiting, drawn, layer, plot, chart, note, summary, prompts]
    clock = gr.Timer(service.limits.tick, active=False)
    clock.tick(look, [seen, wanted], looked, **QUICK)
    tab.select(look, [seen, wanted], looked, **QUICK).then(
        lambda: gr.Timer(active=True), None, clock, **QUICK
    )
    layer.change(None, layer, note, js=_MOVE, **QUICK)
    play.click(None, js=_PLAY, **QUICK)
    chart.point_click(_clicked, layer, layer, **QUICK)
    prompts.input(choose, prompts, plot, **QUICK)
    read.click(begin, None, None, **QUICK)
    stop.click(service.cancel_fit, None, None, **QUICK)

    def first(known: Seen | None, wanted: Any) -> list[Any]:
        return look(known, wanted) if isinstance(wanted, int) else [gr.skip()] * 12

    def draw(event: Any) -> None:
        event.success(first, [seen, wanted], looked, **QUICK)

    return LayersTab(layer, seen, wanted, draw)


def morph_json(service: Service, prompts: Sequence[str]) -> str | None:
    """The anchors under `prompts` at every layer, the last one first; None where they are not known.

    A plot that shows a layer already stays at it. Names that are not the space's are passed over.
    """
    space, found = service.space, service.layers
    if space is None or found is None:
        return None
    return _morph_json(space, found, tuple(name for name in space.anchors.conditions if name in prompts))


@lru_cache(maxsize=4)
def _morph_json(space: Space, found: Layers, prompts: tuple[str, ...]) -> str:
    view, readable = _morph(space, found, prompts), _readable(space, found)
    words = [layer_words.at(view, readable, k) for k in range(len(found))]
    return layer_figures.morph(view, len(found) - 1, words)


def _morph(space: Space, found: Layers, prompts: Sequence[str]) -> layer_views.Morph:
    anchors = space.anchors
    return layer_views.morph(
        found.coordinates, found.arrows, found.explained, anchors.conditions, prompts, anchors.harmful,
        anchors.refusal_rate, anchors.queries,
    )  # fmt: skip


def _readable(space: Space, found: Layers) -> layer_views.Readable:
    nothing = (np.nan, np.nan, np.nan)
    read = found.readings
    return layer_views.Readable(
        np.array([(r.harmfulness.value, r.harmfulness.low, r.harmfulness.high) for r in read]),
        np.array([(r.refusal.value, r.refusal.low, r.refusal.high) if r.refusal else nothing for r in read]),
        np.array([np.nan if r.cosine is None else r.cosine for r in read]),
        {name: np.array([r.shifts[name] for r in read]) for name in read[0].shifts},
        space.projection.m,
        space.projection.d_model,
    )  # fmt: skip


def _everything(service: Service, wanted: Any = None) -> list[Any]:
    """Slider, both plots, words and prompts of the model at hand, at the wanted layer, or the last."""
    space, found = service.space, service.layers
    assert space is not None and found is not None
    names, last = space.anchors.conditions, len(found) - 1
    readable = _readable(space, found)
    at = wanted if isinstance(wanted, int) and 0 <= wanted <= last else last
    return [
        gr.Slider(maximum=last, value=at),
        _morph_json(space, found, names), layer_figures.chart(readable, last),
        layer_words.at(_morph(space, found, names), readable, at), layer_words.summary(readable),
        gr.CheckboxGroup(list(names), value=list(names)),
    ]  # fmt: skip


def _now(service: Service) -> Seen:
    return service.space_name(), service.stage.kind, service.layers is not None


def _status(service: Service) -> str:
    stage = service.stage
    if stage.kind == "ready":
        return cards.quiet(text.NO_LAYERS.format(model=service.space_name()))
    if stage.kind == "no space":
        return cards.quiet(f"{stage.text}. {text.LAYERS_NEED_SPACE}")
    return cards.progress(stage.text, stage.share, stage.kind)


def _clicked(now: float, event: gr.EventData) -> float:
    """The layer of a clicked point of the chart; what the browser sends is checked, whoever sent it."""
    custom = event._data.get("customdata") if isinstance(event._data, dict) else None
    at = custom[-1] if isinstance(custom, list) and custom else None
    return at if isinstance(at, int) and 0 <= at < 1000 else now
