"""One question under every prompt: a ladder, answers aligned, first tokens; several at once; the history."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from explorer import batches, cards, text
from explorer.events import PRIVATE, QUICK
from explorer.live_plot import live_plot
from explorer.live_table import live_table
from explorer.messages import shown
from explorer.requested import MOST_PROMPTS
from explorer.service import Service
from explorer.session import Asked, Place, Session
from explorer.tabs import drawn

_TOLD_EVERY = 0.7
"""Seconds between redraws while a batch is placed."""
_UNVEIL = "(on) => { document.body.classList.toggle('dro-answers', on); }"


@dataclass(frozen=True)
class Compare:
    """The widgets of the tab Compare."""

    tab: gr.Tab
    every: gr.Button
    first: gr.Button
    looked: list[Any]
    """What `look` gives: ladder, aligned answers, first tokens."""


@dataclass(frozen=True)
class Batch:
    """The widgets of the tab for several questions at once."""

    tab: gr.Tab
    lines: gr.Textbox
    answer: gr.Checkbox
    run: gr.Button
    stop: gr.Button
    progress: gr.HTML
    table: gr.HTML


@dataclass(frozen=True)
class History:
    """The widgets of the tab History."""

    tab: gr.Tab
    pins: gr.HTML
    table: gr.HTML


def compare() -> Compare:
    """Lay out the tab Compare."""
    with gr.Tab(text.TAB_COMPARE, id="compare") as tab:
        with gr.Row():
            every = gr.Button(text.EVERY_PROMPT, size="sm", elem_id="every-prompt")
            first = gr.Button(text.OPENINGS, size="sm", elem_id="first-tokens")
        plot = live_plot(text.LADDER, None, 320, elem_id="ladder-plot", visible=False)
        note = gr.HTML(cards.quiet(text.COMPARE_FIRST), elem_id="ladder-note")
        answers = gr.HTML(elem_id="aligned")
        tokens = gr.HTML(elem_id="openings")
    return Compare(tab, every, first, [plot, note, answers, tokens])


def look(service: Service, session: Session) -> tuple:
    """Everything of the tab Compare."""
    ladder = drawn.ladder(service, session)
    if not session.query or not session.places:
        return gr.HTML(visible=False), cards.quiet(text.COMPARE_FIRST), "", ""
    note = f"<p class='caption'>{text.LADDER_NOTE}</p>" if ladder else cards.quiet(text.NO_LADDER)
    shown_plot = gr.HTML(value=ladder, visible=True) if ladder else gr.HTML(visible=False)
    return shown_plot, note, drawn.aligned(service, session), drawn.openings(session)


def wire_compare(
    service: Service, made: Compare, session: gr.State, prompts: gr.CheckboxGroup, limit: int
) -> Any:
    """Wire it; gives the event after which all prompts are ticked."""

    def tick_all(now: Session) -> Any:
        names = [*service.prompt_names(), *now.own][:MOST_PROMPTS]
        kept = [name for name in names if name not in now.ticked]
        return gr.CheckboxGroup(value=[*kept, *(n for n in now.ticked if n in names)])

    def first_tokens(now: Session) -> Any:
        names = [name for name in now.ticked if name not in now.openings]
        with shown():
            if now.query and names:
                query = now.query
                found = service.openings(query, names)
                if now.query == query:
                    now.openings |= dict(zip(names, found, strict=True))
        return now, drawn.openings(now)

    made.first.click(first_tokens, session, [session, made.looked[-1]], concurrency_limit=limit, **PRIVATE)
    made.tab.select(lambda now: look(service, now), session, made.looked, **QUICK)
    return made.every.click(tick_all, session, prompts, **QUICK)


def batch(service: Service) -> Batch:
    """Lay out the tab for several questions at once."""
    with gr.Tab(text.TAB_BATCH, id="batch") as tab:
        lines = gr.Textbox(
            label=text.BATCH_LINES.format(most=service.limits.batch), placeholder=text.BATCH_PLACEHOLDER,
            lines=4, max_lines=10, max_length=400_000, elem_id="batch-lines",
        )  # fmt: skip
        with gr.Row():
            run = gr.Button(text.BATCH_RUN, variant="primary", min_width=120, elem_id="run-batch")
            stop = gr.Button(
                text.BATCH_STOP, variant="stop", visible=False, min_width=80, elem_id="stop-batch"
            )
            answer = gr.Checkbox(False, label=text.BATCH_ANSWER, elem_id="batch-answer", min_width=200)
            reveal = gr.Checkbox(False, label=text.REVEAL_ANSWERS, min_width=200)
        progress = gr.HTML(elem_id="batch-progress")
        table = live_table(cards.quiet(text.BATCH_EMPTY), elem_id="batch-table")
    reveal.change(None, reveal, None, js=_UNVEIL, **QUICK)
    return Batch(tab, lines, answer, run, stop, progress, table)


def wire_batch(service: Service, made: Batch, chosen: list[Any], drawing: list[Any], limit: int) -> None:
    """Wire it. chosen: session, prompts, axes, colour. drawing: plot, legend, caption."""
    session = chosen[0]

    def run(
        now: Session, ticked: list[str], axes: str, colour: str, told: str, answer: bool
    ) -> Iterator[tuple]:
        now.tick(ticked)
        with shown():
            queries = batches.read_lines(told, service.limits.batch)
            for query in queries:
                service.check(query, now.ticked)
            now.batch_turn += 1
            mine, names, space, last = now.batch_turn, list(now.ticked), service.space_name(), 0.0
            now.batch = [Asked(query, space) for query in queries]
            count, focus = len(queries), names[-1]
            asked = now.batch  # another batch may take its place
            buttons = gr.Button(visible=False), gr.Button(visible=True)
            yield now, *[gr.skip()] * 3, _line(text.BATCH_PLACING, 0, count), gr.skip(), *buttons
            done = 0
            for done, (number, points) in enumerate(batches.placed(service, queries, names), 1):
                for name, point in zip(names, points, strict=True):
                    asked[number].places[name] = Place(
                        point.coordinates,
                        point.refusal_probability,
                        point.harmfulness_logit,
                        None,
                        point.beyond,
                    )
                if now.batch_turn != mine:
                    break
                if time.monotonic() - last > _TOLD_EVERY:
                    yield (*_picture(now, axes, colour), _line(text.BATCH_PLACING, done, count), *_kept())
                    last = time.monotonic()
            if answer and now.batch_turn == mine:
                yield from answers(now, asked, focus, mine, axes, colour)
        yield (
            *_picture(now, axes, colour), cards.quiet(text.BATCH_DONE.format(count=done)),
            drawn.batch(service, now), gr.Button(visible=True), gr.Button(visible=False),
        )  # fmt: skip

    def answers(
        now: Session, asked: list[Asked], focus: str, mine: int, axes: str, colour: str
    ) -> Iterator[tuple]:
        from dro.refusal import judge

        last = 0.0
        told_all = batches.answered(service, [each.query for each in asked], focus)
        for done, (number, told) in enumerate(told_all, 1):
            said = told[0][0].strip()
            asked[number].answers[focus] = (said, judge(said).outcome)
            if now.batch_turn != mine:
                return
            if time.monotonic() - last > _TOLD_EVERY:
                line = _line(text.BATCH_WRITING, done, len(asked))
                yield now, *[gr.skip()] * 3, line, drawn.batch(service, now), gr.skip(), gr.skip()
                last = time.monotonic()

    def _picture(now: Session, axes: str, colour: str) -> tuple:
        return now, *drawn.picture(service, now, axes, colour)

    def _kept() -> tuple:
        return gr.skip(), gr.skip(), gr.skip()

    def stop(now: Session) -> tuple:
        now.batch_turn += 1
        return now, gr.Button(visible=True), gr.Button(visible=False)

    def again(now: Session) -> str:
        return drawn.batch(service, now)

    outputs = [session, *drawing, made.progress, made.table, made.run, made.stop]
    begun = made.run.click(
        run, [*chosen, made.lines, made.answer], outputs, concurrency_limit=limit, **PRIVATE
    )
    begun.failure(lambda: (gr.Button(visible=True), gr.Button(visible=False)), None, [made.run, made.stop],
                  **QUICK)  # fmt: skip
    made.stop.click(stop, session, [session, made.run, made.stop], **QUICK)
    made.tab.select(again, session, made.table, **QUICK)


def history() -> History:
    """Lay out the tab History."""
    with gr.Tab(text.TAB_HISTORY, id="history") as tab:
        pins = live_table(cards.quiet(text.PINS_EMPTY), elem_id="pins")
        table = live_table(cards.quiet(text.HISTORY_EMPTY), elem_id="history")
    return History(tab, pins, table)


def _line(told: str, done: int, count: int) -> str:
    return cards.progress(told.format(done=done, count=count), done / count, "working")
