"""Trained prompts: a gallery to sort, rename and delete in; one opened up, or two beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np

from dro.errors import DroError
from explorer import cards, figures, live_table, run_cards, text, thumbnails, views
from explorer.events import PRIVATE, QUICK
from explorer.live_plot import live_plot
from explorer.messages import shown
from explorer.run import Run
from explorer.runs import PRESETS
from explorer.service import Service
from explorer.session import Session
from explorer.tabs.optimise import SETTINGS, curve, own_keys, watched

MOST_CARDS = 60
"""More would make the page slow."""
_LABELS = text.SETTING_LABELS | dict(
    zip(SETTINGS, (text.INIT, text.TARGET, text.RANKING, text.STEPS, text.BATCH, text.LR, text.W_HARMLESS,
                   text.W_H, text.BETA, text.SEED), strict=True)
)  # fmt: skip


@dataclass(frozen=True)
class Gallery:
    """The widgets of the tab. renaming: row, box, button that saves and one that leaves. opened: what
    `opened` gives. vectors: filled a moment later than the rest."""

    tab: gr.Tab
    sort: gr.Dropdown
    undo: gr.HTML
    table: gr.HTML
    renaming: tuple[gr.Row, gr.Textbox, gr.Button, gr.Button]
    opened: list[Any]
    vectors: gr.HTML
    use: gr.Button
    close: gr.Button


def gallery() -> Gallery:
    """Lay out the tab."""
    with gr.Tab(text.TAB_GALLERY, id="gallery") as tab:
        sort = gr.Dropdown(list(text.SORTS), value="newest", label=text.SORT, info=text.SORT_INFO,
                           elem_id="gallery-sort", interactive=True)  # fmt: skip
        undo = live_table.live_table(elem_id="gallery-undo")
        with gr.Row(visible=False, elem_id="gallery-rename") as row:
            box = gr.Textbox(label=text.NEW_NAME, max_length=40, scale=4, min_width=200)
            save = gr.Button(text.SAVE, variant="primary", size="sm", scale=1, min_width=80)
            leave = gr.Button(text.LEAVE, size="sm", scale=1, min_width=80)
        table = live_table.live_table(cards.quiet(text.NO_RUN), elem_id="gallery")
        with gr.Column(visible=False, elem_id="opened") as panel:
            with gr.Row():
                head = gr.HTML(elem_id="opened-head", min_width=200)
                use = gr.Button(
                    text.USE, variant="primary", size="sm", scale=0, min_width=150, elem_id="opened-use"
                )
                close = gr.Button(text.CLOSE, size="sm", scale=0, min_width=80, elem_id="opened-close")
            with gr.Row():
                with gr.Column(min_width=300):
                    first = [live_plot(text.RUN_WATCH, None, 300, elem_id="opened-watch-plot"),
                             live_plot(text.RUN_CURVE, None, 220, elem_id="opened-curve-plot")]  # fmt: skip
                with gr.Column(min_width=300, visible=False) as beside:
                    second = [
                        live_plot(text.RUN_WATCH_OTHER, None, 300, elem_id="other-watch-plot"),
                        live_plot(text.RUN_CURVE_OTHER, None, 220, elem_id="other-curve-plot"),
                    ]
            rates = gr.HTML(elem_id="opened-rates")
            settings = gr.HTML(elem_id="opened-settings")
            vectors = gr.HTML(elem_id="opened-vectors")
            origin = gr.HTML(elem_id="opened-origin")
    opened = [panel, head, use, *first, beside, *second, rates, settings, vectors, origin]
    return Gallery(tab, sort, undo, table, (row, box, save, leave), opened, vectors, use, close)


def wire(
    service: Service, made: Gallery, session: gr.State, prompts: gr.CheckboxGroup, keys: gr.BrowserState,
    run: gr.BrowserState, changed: Any, choices: Callable[[Session], list[tuple[str, str]]],
) -> Any:  # fmt: skip
    """Wire it; gives the event after which the opened prompt is to be ticked.

    changed: an event after which runs may be others. run: the one that this page follows in Optimise.
    choices: what can be ticked.
    """
    row, box, save, leave = made.renaming
    outputs = [session, made.undo, made.table, row, box, *made.opened]

    def everything(now: Session, held: Any) -> tuple:
        _forget(service, now)
        return (
            now, undo_html(now), gallery_html(service, now, own_keys(held)),
            gr.Row(visible=bool(now.renaming)), gr.skip(), *opened(service, now),
        )  # fmt: skip

    def pressed(now: Session, held: Any, event: gr.EventData) -> tuple:
        what, key = live_table.pressed(event._data)
        with shown():
            _press(service, now, own_keys(held), what, key)
        told = list(everything(now, held))
        if what == "rename":
            told[outputs.index(box)] = now.renaming
        return tuple(told)

    def renamed(now: Session, held: Any, new: str, followed: str) -> tuple:
        old, kept = now.renaming, own_keys(held)
        with shown():
            name = service.rename_run(old, new, kept.get(old, "")).name
        now.rename(old, name)
        now.renaming = ""
        if old in kept:
            kept[name] = kept.pop(old)
        ticked = gr.CheckboxGroup(choices(now), value=now.ticked)
        return *everything(now, kept), kept, name if followed == old else followed, ticked

    def left(now: Session) -> tuple:
        now.renaming = ""
        return now, gr.Row(visible=False)

    def sorted_(now: Session, held: Any, sort: str) -> tuple:
        now.sort = sort if isinstance(sort, str) else "newest"
        return now, gallery_html(service, now, own_keys(held))

    def closed(now: Session, held: Any) -> tuple:
        now.opened = []
        return everything(now, held)

    def read(now: Session) -> Any:
        names = list(now.opened)
        if len(names) != 1:
            return gr.skip()
        told = vectors_html(service, names[0])
        return told if now.opened == names else gr.skip()

    def tick(now: Session) -> Any:
        known = [value for _, value in choices(now)]
        now.tick([*now.ticked, *(name for name in now.opened if name in known)])
        return gr.CheckboxGroup(choices(now), value=now.ticked)

    asked = [session, keys]
    changes = [each.press(pressed, asked, outputs, **QUICK) for each in (made.table, made.undo)]
    changes.append(
        gr.on([save.click, box.submit], renamed, [*asked, box, run], [*outputs, keys, run, prompts], **QUICK)
    )
    for each in changes:
        each.success(read, session, made.vectors, concurrency_limit=8, **PRIVATE)
    leave.click(left, session, [session, row], **QUICK)
    made.close.click(closed, asked, outputs, **QUICK)
    made.sort.input(sorted_, [*asked, made.sort], [session, made.table], **QUICK)
    gr.on([made.tab.select, changed], everything, asked, outputs, **QUICK).success(
        read, session, made.vectors, concurrency_limit=8, **PRIVATE
    )
    return made.use.click(tick, session, prompts, **QUICK)


def _press(service: Service, now: Session, keys: dict[str, str], what: str, key: str) -> None:
    """Do what a button of a card says; what it sends is checked, whoever sent it."""
    known = service.run_names()
    if what == "restore":
        thrown = service.deleted_runs().get(key)
        service.restore_run(key, keys.get(thrown.name, "") if thrown else "")
        if now.deleted[1] == key:
            now.deleted = ("", "")
    elif what == "delete":
        now.deleted = (key, service.delete_run(key, keys.get(key, "")))
    elif what == "open" and key in known:
        now.opened = [key]
    elif what == "compare" and key in known:
        others = [name for name in now.opened if name != key][-1:]
        now.opened = others if key in now.opened else [*others, key]
    elif what == "rename" and key in known and service.may_change(service.run(key), [keys.get(key, "")]):
        now.renaming = key


def _forget(service: Service, now: Session) -> None:
    """What is gone, here or by somebody else, is neither opened nor renamed."""
    known = service.run_names()
    now.opened = [name for name in now.opened if name in known]
    now.renaming = now.renaming if now.renaming in known else ""
    if now.deleted[1] and now.deleted[1] not in service.deleted_runs():
        now.deleted = ("", "")


def undo_html(session: Session) -> str:
    """The run that was deleted last, with the way back."""
    return run_cards.undo(*session.deleted) if session.deleted[0] else ""


def gallery_html(service: Service, session: Session, keys: dict[str, str]) -> str:
    """All runs as cards, and what lies in the trash."""
    ordered = in_order(service.runs(), session.sort)
    geometry = service.geometry()
    made = [_card(service, run, geometry, session, keys) for run in ordered[:MOST_CARDS]]
    thrown = {
        key: (run.name, run.created) for key, run in service.deleted_runs().items()
        if service.may_change(run, [keys.get(run.name, "")])
    }  # fmt: skip
    return run_cards.gallery(made, len(ordered)) + run_cards.trash(thrown)


def in_order(runs: Sequence[Run], sort: str) -> list[Run]:
    """Runs as they are to be listed; those that were not measured come last where it is by a figure."""
    newest = sorted(runs, key=lambda run: -run.created)
    if sort == "oldest":
        return newest[::-1]
    if sort == "name":
        return sorted(newest, key=lambda run: run.name.lower())
    signs = {"harmful": (1, 0), "harmless": (0, -1), "difference": (1, -1)}.get(sort)
    if signs is None:
        return newest

    def figure(run: Run) -> float:
        after = rates_of(run, run.name)
        if len(after) < 2:
            return -np.inf
        return signs[0] * after["harmful"][0] + signs[1] * after["harmless"][0]

    return sorted(newest, key=figure, reverse=True)


def rates_of(run: Run, prompt: str) -> dict[str, run_cards.Measured]:
    """Refusal rates of one prompt of a run's report, by class."""
    return {r.label: (r.rate, r.low, r.high) for r in run.rates if r.prompt == prompt}


def _card(
    service: Service, run: Run, geometry: views.Geometry | None, session: Session, keys: dict[str, str]
) -> run_cards.Card:
    losses = [step.loss for step in run.steps]
    pictures = []
    if losses:
        told = text.THUMB_LOSS.format(first=losses[0], last=losses[-1], steps=len(losses))
        pictures.append(thumbnails.loss(losses, run.config.steps, told))
    view = watched(service, run) if geometry is not None else None
    if view is not None:
        pictures.append(
            thumbnails.movement(view.start, view.now, view.harmful, view.ranges, text.THUMB_MOVES)
        )
    return run_cards.Card(
        run.name, run.preset, run.created, text.PHASES[run.phase].partition(":")[0], len(run.steps),
        rates_of(run, run.config.init), rates_of(run, run.name), pictures,
        run.over and service.may_change(run, [keys.get(run.name, "")]), run.name in session.opened,
    )  # fmt: skip


def opened(service: Service, session: Session) -> list[Any]:
    """One run opened up, or two beside each other on the same axes."""
    known = {run.name: run for run in service.runs()}
    runs = [known[name] for name in session.opened if name in known]
    panel, two = gr.Column(visible=bool(runs)), len(runs) == 2
    if not runs:
        return [panel, *[gr.skip()] * 11]
    named = " · ".join(cards.prompt_label(run.name) for run in runs)
    figures_of = [*_pictures(service, runs), None, None][:4]
    rows = [rate.as_dict() for run in runs for rate in run.rates]
    unique = list({(row["prompt"], row["class"]): row for row in rows}.values())
    measured = cards.rates(unique) if unique else cards.quiet(text.NOT_MEASURED)
    measured += "".join(
        f"<p class='caption'><b>{cards.prompt_label(run.name)}</b></p>{cards.region(run.region.as_dict())}"
        for run in runs if run.region is not None
    )  # fmt: skip
    usual = PRESETS[runs[0].preset].model_dump() if runs[0].preset in PRESETS else {}
    told = run_cards.settings(
        [run.name for run in runs], [run.config.model_dump() for run in runs], _LABELS, {} if two else usual
    )
    return [
        panel, f"<h3>{named}</h3>", gr.Button(visible=any(run.usable for run in runs)), *figures_of[:2],
        gr.Column(visible=two), *figures_of[2:], _section(text.SECTION_RATES, measured),
        _section(text.SECTION_SETTINGS, told),
        cards.quiet(text.VECTORS_TWO if two else text.READING_VECTORS),
        "" if two else _origin(service, runs[0]),
    ]  # fmt: skip


def _pictures(service: Service, runs: Sequence[Run]) -> list[str | None]:
    """Movement and loss of each run, all on the same axes."""
    seen, curves = [watched(service, run) for run in runs], [curve(run) for run in runs]
    ranges = views.joined([view.ranges for view in seen if view is not None])
    top = max([1e-9, *(max(values, default=0.0) for each in curves for values in each.terms.values())])
    planned = max(each.planned for each in curves)
    found: list[str | None] = []
    for view, each in zip(seen, curves, strict=True):
        drawn = figures.curve(replace(each, planned=planned))
        drawn.update_yaxes(range=[0, 1.06 * top])
        moves = None if view is None else figures.watch(replace(view, ranges=ranges)).to_json()
        found += [moves, drawn.to_json()]
    return found


def vectors_html(service: Service, name: str) -> str:
    """The vectors of an opened prompt; what is wrong is told in their place."""
    try:
        found = service.vectors(name)
    except DroError as error:
        return _section(text.SECTION_VECTORS, cards.quiet(str(error)))
    rows = [
        run_cards.VectorRow(each.token, each.norm, each.start_norm, each.drift, each.nearest)
        for each in found
    ]
    return _section(text.SECTION_VECTORS, run_cards.vectors(rows))


def _origin(service: Service, run: Run) -> str:
    try:
        told, digest = service.provenance(run.name)
    except DroError as error:
        return cards.quiet(str(error))
    return _section(text.SECTION_PROVENANCE, run_cards.provenance(told, digest, run.created, run.seconds))


def _section(title: str, body: str) -> str:
    return f"<h4>{title}</h4>{body}"
