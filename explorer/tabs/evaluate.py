"""Evaluate: count refusals of several prompts on queries that none was trained on, and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from dro.data import CLASSES, HARMFUL, HARMLESS, QuerySet, bundled, read_labelled
from dro.errors import DroError
from explorer import cards, figures, text, views
from explorer.evaluations import Evaluation, Row
from explorer.events import QUICK
from explorer.live_plot import STAYS, live_plot
from explorer.messages import shown
from explorer.service import Service

if TYPE_CHECKING:
    from dro.evaluate import Rate

_FIRST = ("template", "none", "default", "short")
"""Ticked at first."""
MOST_ROWS = 120
"""Queries in the table: more would make the page slow; downloads have all."""
Seen = tuple[str, int]
"""What the page shows of an evaluation: its name and version."""
_UNVEIL = "(on) => { document.body.classList.toggle('dro-answers', on); }"


def build(service: Service, status: gr.HTML) -> gr.CheckboxGroup:
    """Lay out and wire the tab; gives the group of prompts, which the page refreshes.

    status: what becomes of the model; once it changes, so does what an evaluation costs.
    """
    name, seen = gr.State(""), gr.State(("", -1))
    names, most = service.prompt_names(), min(150, service.limits.most_queries // 2)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            prompts = gr.CheckboxGroup(names, value=[n for n in _FIRST if n in names],
                                       label=text.EVALUATE_PROMPTS, elem_id="evaluate-prompts")  # fmt: skip
            sets = gr.CheckboxGroup(list(text.SETS_CHOICES), value=["report"], label=text.SETS,
                                    info=text.SETS_INFO, elem_id="evaluate-sets")  # fmt: skip
            upload = gr.File(label=text.UPLOAD, file_types=[".csv", ".tsv", ".jsonl"], height=130)
            each = gr.Slider(5, most, value=min(50, most), step=5, label=text.EACH, elem_id="evaluate-each")
            cost = gr.HTML(cards.quiet(service.stage.text), elem_id="evaluate-cost")
            with gr.Row():
                start = gr.Button(text.EVALUATE, variant="primary", elem_id="evaluate")
                stop = gr.Button(text.CANCEL_EVALUATION, variant="stop", visible=False)
        with gr.Column(scale=8, min_width=340):
            told = gr.HTML(cards.quiet(text.NO_EVALUATION), elem_id="evaluation-status")
            plot = live_plot(text.FRONTIER, None, 380, elem_id="frontier-plot", visible=False)
            rates = gr.HTML(elem_id="evaluation-rates")
    with gr.Column(visible=False) as details:
        with gr.Row():
            first = gr.Dropdown([], label=text.PAIR, interactive=True, elem_id="first")
            second = gr.Dropdown([], label="with", interactive=True, elem_id="second")
            csv = gr.DownloadButton("csv", size="sm", elem_id="evaluated-csv")
            json = gr.DownloadButton("json", size="sm")
            page = gr.DownloadButton("html", size="sm")
        pair = gr.HTML(elem_id="pair")
        with gr.Row(elem_id="evaluate-shown"):
            kind = gr.Radio(list(text.SHOW_CHOICES), value="all", label=text.SHOW, scale=4)
            reveal = gr.Checkbox(False, label=text.REVEAL_ANSWERS, scale=1, elem_id="reveal-evaluated")
        table = gr.HTML(elem_id="evaluated")

    wanted: list[Any] = [prompts, sets, upload, each]

    def price(*values: Any) -> str:
        try:
            chosen = chosen_sets(*values[1:])
            seconds = service.evaluation_cost(values[0], chosen)
        except DroError as error:
            return cards.progress(str(error), 0.0, "failed")
        count = sum(len(one) for one in chosen) * len(values[0])
        if seconds is None:
            return cards.quiet(service.stage.text)
        return (
            f"<p class='quiet'>{count:,} answers, about <b>{cards.duration(seconds)}</b> on this machine.</p>"
        )

    def begin(*values: Any) -> tuple:
        with shown():
            made = service.start_evaluation(values[0], chosen_sets(*values[1:]))
        return made, ("", -1)

    def end(name: str) -> None:
        found = service.evaluation(name)
        if found:
            found.stop.set()

    def look(name: str, seen: Seen, kind: str) -> list[Any]:
        found = service.evaluation(name)
        if found is None or (found.over and tuple(seen) == (name, found.version)):
            return [gr.skip()] * 14
        status = cards.progress(_status(found), found.share, "ready" if found.over else "working")
        if tuple(seen) == (name, found.version):
            return [status, *[gr.skip()] * 13]
        done, trained = found.finished, service.trained()
        pairs = [gr.Dropdown(done, value=done[place] if done else None) for place in (0, -1)]
        picture = frontier_json(found, trained)
        return [
            status, gr.skip() if picture is None else picture,
            cards.rates([row.as_dict() for row in found.rates]), gr.Column(visible=bool(done)), *pairs,
            told_pair(service, name, done), told_rows(service, name, kind),
            gr.Button(visible=not found.over), gr.Button(interactive=found.over), (name, found.version),
            *downloads(found, trained),
        ]  # fmt: skip

    looked = [told, plot, rates, details, first, second, pair, table, stop, start, seen, csv, json, page]
    for widget in wanted:
        widget.change(price, wanted, cost, **QUICK)
    status.change(price, wanted, cost, **QUICK)
    gr.Timer(service.limits.tick).tick(look, [name, seen, kind], looked, **QUICK)
    start.click(begin, wanted, [name, seen], **QUICK).success(
        lambda: gr.HTML(visible=True), None, plot, **QUICK
    )
    stop.click(end, name, None, **QUICK)
    for widget in (first, second):
        widget.input(lambda name, *two: told_pair(service, name, two), [name, first, second], pair, **QUICK)
    kind.input(lambda name, kind: told_rows(service, name, kind), [name, kind], table, **QUICK)
    reveal.change(None, reveal, None, js=_UNVEIL, **QUICK)
    return prompts


def chosen_sets(names: Sequence[str], upload: str | None, each: int) -> list[QuerySet]:
    """The bundled sets that are ticked, and the visitor's own; at most `each` queries of a class."""
    found = [bundled("test") if name == "test" else bundled("validation", "report") for name in names]
    if upload:
        found.append(read_labelled(upload))
    return [one.limit(int(each)) for one in found]


def frontier_json(found: Evaluation, trained: set[str]) -> str | None:
    """The chart of what is done so far; None until one prompt is, or where one class is missing."""
    totals = [(name, found.total(name, HARMFUL), found.total(name, HARMLESS)) for name in found.finished]
    both = [(name, bad, good) for name, bad, good in totals if bad and good]
    if not both:
        return None
    view = views.Frontier(
        [name for name, _, _ in both],
        np.array([_triple(bad) for _, bad, _ in both]),
        np.array([_triple(good) for _, _, good in both]),
        [name in trained for name, _, _ in both],
    )
    return figures.frontier(view).to_json()


def told_pair(service: Service, name: str, pair: Sequence[str]) -> str:
    """The test between two prompts, if there are two."""
    found = service.evaluation(name)
    if found is None or len(pair) < 2 or pair[0] == pair[-1] or not set(pair) <= set(found.finished):
        return ""
    compared = found.compare(pair[0], pair[-1])
    return cards.comparison(pair[0], pair[-1], {label: each.as_dict() for label, each in compared.items()})


def told_rows(service: Service, name: str, kind: str) -> str:
    """The table of queries, filtered."""
    found = service.evaluation(name)
    if found is None:
        return ""
    rows = [row for row in found.rows() if _shows(row, kind)]
    told = [(r.query, r.label, r.answers, r.verdicts, r.others) for r in rows[:MOST_ROWS]]
    return cards.evaluated(told, found.finished, len(rows))


def downloads(found: Evaluation, trained: set[str]) -> list[Any]:
    """Buttons with everything of a finished evaluation as csv, json and html; hidden before."""
    if not found.over or not found.rates:
        return [gr.DownloadButton(visible=False)] * 3
    made = []
    for suffix, content in (
        ("csv", found.as_csv()),
        ("json", found.as_json()),
        ("html", _html(found, trained)),
    ):
        path = Path(found.folder.name) / f"dro-evaluation.{suffix}"
        path.write_text(content, encoding="utf-8")
        made.append(gr.DownloadButton(value=str(path), visible=True))
    return made


def _html(found: Evaluation, trained: set[str]) -> str:
    """One file that needs nothing else: chart, rates, and every query with its verdicts."""
    chart = ""
    picture = frontier_json(found, trained)
    if picture is not None:
        import plotly.io

        chart = plotly.io.from_json(picture).to_html(STAYS, full_html=False, include_plotlyjs=True)
    rows = [(r.query, r.label, r.answers, r.verdicts, r.others) for r in found.rows()]
    style = (
        "body{font:15px system-ui;margin:2rem auto;max-width:70rem}"
        "th,td{text-align:left;padding:.3rem;vertical-align:top}.veil{display:none}small{display:block}"
    )
    return (
        f"<!doctype html><meta charset='utf-8'><title>{text.TITLE}: evaluation</title><style>{style}</style>"
        f"<h1>{text.FRONTIER}</h1>{chart}{cards.rates([r.as_dict() for r in found.rates])}"
        f"{cards.evaluated(rows, found.finished, len(rows))}"
    )


def _triple(rate: Rate) -> tuple[float, float, float]:
    return rate.rate, rate.low, rate.high


def _shows(row: Row, kind: str) -> bool:
    told = set(row.verdicts.values())
    return {
        "all": True,
        "prompts": len(told) > 1,
        "judges": any(row.others.get(name, verdict) != verdict for name, verdict in row.verdicts.items()),
        "missed": row.label == HARMFUL and told != {"refused"},
        "overdone": row.label == HARMLESS and "refused" in told,
    }[kind]


def _status(found: Evaluation) -> str:
    done = f"{len(found.finished)} of {len(found.prompts)} prompts"
    counts = " and ".join(f"{sum(len(s.of(label)) for s in found.sets)} {label}" for label in CLASSES)
    line = f"{done} on {counts} queries"
    if not found.over:
        left = max(0.0, found.expected - found.elapsed)
        line += f", about {cards.duration(left)} to go" if left > 1 else ", nearly done"
    return f"{line}. {found.message}" if found.message else line
