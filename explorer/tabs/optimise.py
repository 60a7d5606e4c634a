"""Optimise: train a safety prompt, watch queries move, measure it on queries it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from dro.errors import DroError
from dro.prompts import STANDARD
from explorer import cards, figures, text, views
from explorer.events import QUICK
from explorer.live_plot import live_plot
from explorer.messages import shown
from explorer.run import WATCHED, Run
from explorer.runs import PRESETS
from explorer.service import Service

SETTINGS = ("init", "target", "ranking", "steps", "batch", "lr", "harmless_weight", "harmfulness_weight",
            "residual_weight", "seed")  # fmt: skip


Seen = tuple[str, int, str]
"""What a page shows: a run (or ""), its version, and the space's name."""
UNSEEN: Seen = ("", -1, "")
_KEYS = 16
"""Runs whose keys a browser keeps."""


@dataclass(frozen=True)
class Optimise:
    """The widgets other tabs need. run: name of the run this page follows; keys: of the runs that were begun
    here; both are kept in the browser."""

    run: gr.BrowserState
    keys: gr.BrowserState
    use: gr.Button
    seen: gr.State
    runs: gr.Dropdown
    following: list[Any]
    expected: gr.HTML
    settings: list[Any]
    """The preset and the settings, as `expected_html` takes them."""


def build(service: Service) -> Optimise:
    """Lay out and wire the tab."""
    first, most = PRESETS["quick"].model_dump(), service.limits
    presets = [each for each in text.PRESETS if not most.presets or each[1] in most.presets]
    keys = gr.BrowserState({}, storage_key="dro-explorer-keys", secret="dro-explorer")
    run = gr.BrowserState("", storage_key="dro-explorer-run", secret="dro-explorer")
    seen = gr.State(UNSEEN)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            preset = gr.Radio(presets, value="quick", label=text.PRESET, elem_id="preset")
            expected = gr.HTML(elem_id="expected")
            with gr.Row():
                start = gr.Button(text.START, variant="primary", elem_id="start")
                stop = gr.Button(text.STOP, variant="stop", visible=False, elem_id="stop")
            with gr.Accordion("Settings", open=False):
                init = gr.Dropdown(
                    [n for n in STANDARD if n != "none"] + ["template+short"], value=first["init"],
                    label=text.INIT, allow_custom_value=True, info="or text: and your own words",
                )  # fmt: skip
                with gr.Row():
                    steps = gr.Number(
                        first["steps"], label=text.STEPS, precision=0, minimum=1, maximum=most.most_steps
                    )
                    batch = gr.Number(
                        first["batch"], label=text.BATCH, precision=0, minimum=2, maximum=most.most_batch
                    )
                    lr = gr.Number(first["lr"], label=text.LR, minimum=0, maximum=1, step=0.0005)
                target = gr.Radio(
                    ["first-token", "absolute", "difference"], value=first["target"], label=text.TARGET
                )
                ranking = gr.Slider(0, 1, first["ranking"], step=0.05, label=text.RANKING)
                with gr.Row():
                    harmless = gr.Number(first["harmless_weight"], label=text.W_HARMLESS, minimum=0)
                    w_h = gr.Number(first["harmfulness_weight"], label=text.W_H, minimum=0)
                    beta = gr.Number(first["residual_weight"], label=text.BETA, minimum=0, step=0.001)
                    seed = gr.Number(first["seed"], label=text.SEED, precision=0, minimum=0)
            runs = gr.Dropdown([], label=text.RUNS, interactive=True, elem_id="runs", visible=False)
            with gr.Row():
                use = gr.Button(text.USE, visible=False, variant="primary", elem_id="use")
                take = gr.DownloadButton(text.TAKE, visible=False, elem_id="take")
                resume = gr.Button(text.RESUME, visible=False, elem_id="resume")
        with gr.Column(scale=7, min_width=340):
            told = gr.HTML(cards.quiet(text.NO_RUN), elem_id="run-status")
            watch = live_plot("Watched queries: refusal against harmfulness, moving as the prompt trains",
                              _resting(service), 380, elem_id="watch-plot")  # fmt: skip
            results = gr.HTML(elem_id="results")
            curve = live_plot("Loss by step", None, 240, elem_id="curve-plot")

    widgets: dict[str, Any] = {"init": init, "target": target, "ranking": ranking, "steps": steps,
               "batch": batch, "lr": lr, "harmless_weight": harmless, "harmfulness_weight": w_h,
               "residual_weight": beta, "seed": seed}  # fmt: skip
    settings = [widgets[name] for name in SETTINGS]
    following = [told, watch, curve, results, stop, start, use, take, resume, seen]

    def choose(preset: str) -> list[Any]:
        config = PRESETS[preset].model_dump()
        return [config[name] for name in SETTINGS]

    def expect(preset: str, *values: Any) -> str:
        return expected_html(service, preset, values)

    def begin(held: Any, preset: str, *values: Any) -> tuple:
        with shown():
            started, key = service.start_run(_config(service, preset, values), preset)
        kept = dict(list(own_keys(held).items())[-_KEYS:]) | {started.name: key}
        return kept, started.name, gr.Dropdown(labels(service), value=started.name, visible=True), UNSEEN

    def end(seen: Seen, held: Any) -> str:
        with shown():
            service.stop_run(seen[0], own_keys(held).get(seen[0], ""))
        return cards.progress("Stopping after this step …", 0.0)

    def go_on(seen: Seen, held: Any) -> Seen:
        with shown():
            service.resume_run(seen[0], own_keys(held).get(seen[0], ""))
        return (seen[0], -1, "")

    preset.change(choose, preset, settings, **QUICK)
    for widget in settings:
        widget.change(expect, [preset, *settings], expected, **QUICK)
    start.click(begin, [keys, preset, *settings], [keys, run, runs, seen], **QUICK)
    stop.click(end, [seen, keys], told, **QUICK)
    resume.click(go_on, [seen, keys], seen, **QUICK)
    runs.input(lambda name: (name, UNSEEN), runs, [run, seen], **QUICK)
    return Optimise(run, keys, use, seen, runs, following, expected, [preset, *settings])


def own_keys(held: Any) -> dict[str, str]:
    """Keys of this browser's runs by name; what a browser keeps is checked, whoever put it there."""
    return {str(name): str(key) for name, key in held.items()} if isinstance(held, dict) else {}


def expected_html(service: Service, preset: str, values: Sequence[Any]) -> str:
    """How long a run with these settings is likely to take, or what is wrong with them."""
    try:
        seconds = service.expect(_config(service, preset, values))
    except DroError as error:
        return cards.progress(str(error), 0.0, "failed")
    if seconds is None:
        return cards.quiet(service.stage.text)
    return (
        f'<p class="quiet">About <b>{cards.duration(seconds)}</b> on this machine, to the measured end.</p>'
    )


def follow(service: Service, name: str, seen: Seen) -> list[Any]:
    """What changed on a run since this page last looked."""
    known, space = service.run_names(), service.space_name()
    chosen = next((n for n in (name, seen[0]) if n in known), None)
    run = service.run(chosen) if chosen else service.active_run()
    if run is None:
        nothing: Seen = ("", 0, space)
        if tuple(seen) == nothing:
            return [gr.skip()] * 10
        hidden = gr.Button(visible=False)
        return [
            cards.quiet(text.NO_RUN),
            _resting(service),
            None,
            "",
            hidden,
            gr.skip(),
            hidden,
            gr.DownloadButton(visible=False),
            hidden,
            nothing,
        ]
    fresh = (run.name, run.version, space) != tuple(seen)
    told = cards.progress(_status(run), _share(run), "ready" if run.over else run.phase)
    if not fresh:
        # Only the clock moves.
        return [gr.skip() if run.over else told, *[gr.skip()] * 9]
    plots = [_watch_json(service, run), _curve_json(run)]
    measured = cards.rates([r.as_dict() for r in run.rates])
    if run.region is not None:
        measured += cards.region(run.region.as_dict())
    return [
        told, *(gr.skip() if p is None else p for p in plots), measured, gr.Button(visible=not run.over),
        gr.Button(interactive=True), gr.Button(visible=run.usable), _take(service, run),
        gr.Button(visible=run.phase == "interrupted"), (run.name, run.version, space),
    ]  # fmt: skip


def labels(service: Service) -> list[tuple[str, str]]:
    """All runs, newest first, with where they stand."""
    return [
        (f"{run.name} · {run.preset}, {run.config.steps} × {run.config.batch} · {run.phase}", run.name)
        for run in reversed(service.runs())
    ]


def _config(service: Service, preset: str, values: Sequence[Any]):
    changes = {name: value for name, value in zip(SETTINGS, values, strict=True) if value is not None}
    return service.configuration(preset, **changes)


def _status(run: Run) -> str:
    spent = run.elapsed()
    where = text.PHASES[run.phase]
    if run.phase == "training":
        where = f"step {len(run.steps)} of {run.config.steps}"
    line = f"{run.name}: {where} · {cards.duration(spent)}"
    if not run.over and run.expected > spent:
        line += f", about {cards.duration(run.expected - spent)} to go"
    if run.phase in ("done", "stopped") and run.steps:
        line += f" · {len(run.steps)} of {run.config.steps} steps"
    return f"{line}. {run.message}" if run.message else line


def _share(run: Run) -> float:
    return 1.0 if run.over else min(0.99, run.elapsed() / max(run.expected, 1.0))


def _take(service: Service, run: Run) -> gr.DownloadButton:
    """The button with the file it gives; hidden where there is none."""
    try:
        file = service.package(run.name)
    except DroError:
        file = None  # a damaged run is told of where it is used
    return gr.DownloadButton(value=file and str(file), visible=file is not None)


def watched(service: Service, run: Run) -> views.Watch | None:
    """A run's watched queries at its beginning and now; None before they were looked at."""
    geometry, seen = service.geometry(), run.watched
    if geometry is None or seen is None or not seen.looks:
        return None
    return views.watch(
        geometry, seen.looks[0][1], seen.looks[-1][1], seen.harmful, seen.trained, seen.queries.texts,
        direct=run.config.target != "first-token",
    )  # fmt: skip


def _watch_json(service: Service, run: Run) -> str | None:
    view = watched(service, run)
    return _resting(service) if view is None else figures.watch(view).to_json()


def _resting(service: Service) -> str | None:
    """Before any run: the queries that will be trained on, where the starting prompt leaves them."""
    geometry = service.geometry()
    if geometry is None or geometry.refusal is None:
        return None
    [cloud] = service.clouds([PRESETS["quick"].init])
    rows = np.sort(
        np.concatenate([np.flatnonzero(cloud.harmful == kind)[:WATCHED] for kind in (True, False)])
    )
    places, queries = cloud.coordinates[rows], [cloud.queries[row] for row in rows]
    everyone = np.ones(len(rows), dtype=bool)
    return figures.watch(
        views.watch(geometry, places, places, cloud.harmful[rows], everyone, queries,
                    direct=PRESETS["quick"].target != "first-token")
    ).to_json()  # fmt: skip


def curve(run: Run) -> views.Curve:
    """A run's loss terms as they count in the sum."""
    config = run.config
    terms = {
        "refusal": [s.refusal for s in run.steps],
        "harmfulness": [config.harmfulness_weight * s.harmfulness for s in run.steps],
        "residual": [config.residual_weight * s.residual for s in run.steps],
        "total": [s.loss for s in run.steps],
    }
    return views.Curve([s.step for s in run.steps], terms, text.LOSSES, config.steps)


def _curve_json(run: Run) -> str:
    return figures.curve(curve(run)).to_json()
