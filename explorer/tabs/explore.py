"""Explore: type a question, see where it lands under several safety prompts, read the answers."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from explorer import cards, figures, text, views
from explorer.events import PRIVATE, QUICK
from explorer.live_plot import live_plot
from explorer.messages import shown
from explorer.service import BASE, Service
from explorer.session import Place, Session

_REDRAW = 0.25
"""Seconds between redraws while answers are written."""
_AT_ONCE = 16
"""Visitors whose answers may be written at the same time; at the model they take turns."""
FIRST = ("none", "default")
"""Ticked at first: no prompt at all, and a human one."""
_UNVEIL = "() => document.body.classList.toggle('dro-revealed')"
_VEIL = "(...asked) => { document.body.classList.remove('dro-revealed'); return asked; }"
"""A new question is veiled again; part of asking itself, since one event is faster than two."""


@dataclass(frozen=True)
class Explore:
    """The widgets other tabs need."""

    query: gr.Textbox
    prompts: gr.CheckboxGroup
    chosen: list[Any]
    """What a redraw needs: session, ticked prompts, axes, colour."""
    picture: list[Any]
    """What a redraw gives: session, plot, legend, caption, table, answers."""
    catch_up: Callable[[Any], None]
    """Place and answer the query under prompts that an event has ticked."""


def picture(service: Service, session: Session, axes: str, colour: str) -> tuple[str | None, str, str]:
    """Plot json, legend and caption of what is ticked."""
    geometry = service.geometry()
    if geometry is None:
        return None, "", cards.quiet(service.stage.text)
    clouds = service.clouds(session.ticked)
    known = [cloud.prompt for cloud in clouds]
    focus = known[-1] if known else None
    faint = next((n for n in (BASE, *known) if n in known and n != focus), None)
    view = views.scatter(geometry, clouds, [n for n in (faint, focus) if n], _located(service, session), axes)  # type: ignore[arg-type]
    figure = figures.scatter(view, colour == "refusal")
    figure.update_layout(uirevision=f"{view.axes} of {service.space_name()}")
    unasked = any(np.isnan(c.refusal_rate).any() for c in clouds if c.prompt == focus)
    legend = cards.legend(faint, focus, colour == "refusal", unasked)
    return figure.to_json(), legend, cards.caption(view)


def _located(service: Service, session: Session) -> views.Located | None:
    names = [n for n in session.ticked if n in session.places]
    space = service.space
    if not names or space is None or session.space != space.name:
        return None
    places = [session.places[n] for n in names]
    return views.Located(
        session.query, names, np.array([p.coordinates for p in places]), np.array([p.beyond for p in places])
    )


def table(service: Service, session: Session) -> str:
    """The table of the query's places and observed verdicts."""
    trained = service.trained()
    rows = []
    for name in session.ticked:
        place = session.places.get(name)
        if place is not None:
            verdict = session.answers.get(name, ("", None))[1]
            rows.append(cards.Row(name, place.refusal, place.harmfulness, place.shift, name in trained,
                                  place.beyond, verdict))  # fmt: skip
    return cards.table(rows, BASE)


def answers(service: Service, session: Session) -> str:
    """The answers side by side."""
    if not session.query or not session.places:
        return ""
    told = [session.answers.get(name, ("", None)) for name in session.ticked]
    return cards.answers(session.ticked, told, service.judge_name, session.harmful)


def locate(service: Service, session: Session, prompts: Sequence[str]) -> None:
    """Place the session's query under `prompts`; the shift is told against `none`."""
    names = list(dict.fromkeys([BASE, *prompts]))
    points = dict(zip(names, service.points(session.query, names), strict=True))
    for name in prompts:
        point = points[name]
        session.places[name] = Place(
            point.coordinates, point.refusal_probability, point.harmfulness_logit,
            service.shift(point, points[BASE]), point.beyond,
        )  # fmt: skip


def build(service: Service) -> Explore:
    """Lay out and wire the tab."""
    names = service.prompt_names()
    first = Session(ticked=[n for n in FIRST if n in names] or names[:2])
    plot_json, legend_html, caption_html = picture(service, first, "components", "class")
    session = gr.State(first)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=340):
            legend = gr.HTML(legend_html)
            plot = live_plot("Anchors and your question in the representation space", plot_json, 470,
                             elem_id="space-plot")  # fmt: skip
            caption = gr.HTML(caption_html)
            picked = gr.HTML(cards.quiet(text.CLICK), elem_id="picked")
            with gr.Group(elem_id="controls"):
                axes = gr.Radio(list(text.AXES_CHOICES), value="components", label=text.AXES)
                colour = gr.Radio(list(text.COLOUR_CHOICES), value="class", label=text.COLOUR)
        with gr.Column(scale=5, min_width=320):
            with gr.Row(equal_height=True):
                query = gr.Textbox(
                    label=text.QUERY, placeholder=text.QUERY_PLACEHOLDER, lines=2, max_lines=6,
                    max_length=8000, elem_id="query", scale=5, min_width=220,
                )  # fmt: skip
                ask = gr.Button(text.ASK, variant="primary", elem_id="ask", scale=1, min_width=80)
            gr.Examples([[example] for example in text.EXAMPLES], inputs=[query], label="Try")
            prompts = gr.CheckboxGroup(names, value=first.ticked, label=text.PROMPTS, info=text.PROMPTS_INFO,
                                       elem_id="prompts")  # fmt: skip
            with gr.Accordion(text.OWN, open=False):
                own = gr.Textbox(placeholder=text.OWN_PLACEHOLDER, show_label=False, lines=2, max_length=3900,
                                 elem_id="own")  # fmt: skip
                add = gr.Button(text.OWN_ADD, size="sm")
                length = gr.Slider(8, 120, value=48, step=8, label=text.LENGTH)
            facts = gr.HTML(table(service, first), elem_id="facts")
            reveal = gr.Button(text.REVEAL, visible=False, size="sm", elem_id="reveal")
    said = gr.HTML(elem_id="answers")

    drawn = [plot, legend, caption]
    chosen = [session, prompts, axes, colour]

    def draw(now: Session, ticked: list[str], axes: str, colour: str) -> tuple:
        now.tick(ticked)
        return (now, *picture(service, now, axes, colour), table(service, now), answers(service, now))

    def ask_now(now: Session, asked: str, ticked: list[str], axes: str, colour: str) -> Iterator[tuple]:
        now.tick(ticked)
        with shown():
            service.check(asked, ticked)
            now.turn += 1
            mine = now.turn
            while not service.settled:  # loading is visible above; what needs the model waits for it
                if now.turn != mine:
                    return
                yield (now, *[gr.skip()] * 6)
                time.sleep(0.3)
            now.ask(asked, service.space_name())
            locate(service, now, now.ticked)
        yield (
            now, *picture(service, now, axes, colour), table(service, now), answers(service, now),
            gr.Button(visible=now.harmful),
        )  # fmt: skip

    def catch_up(now: Session, axes: str, colour: str) -> tuple:
        """Place the query under prompts that were ticked after it was asked."""
        if now.query and now.missing:
            with shown():
                locate(service, now, now.missing)
        return (
            now,
            *picture(service, now, axes, colour),
            table(service, now),
            gr.Button(visible=now.harmful),
        )

    def write(now: Session, length: float) -> Iterator[tuple]:
        """Stream the answers that are missing, side by side."""
        waiting = now.unanswered
        if not waiting:
            return
        now.turn += 1
        mine, last = now.turn, 0.0
        current = lambda: now.turn == mine  # noqa: E731
        with shown():
            for told in service.stream_answers(now.query, waiting, int(length), current):
                ended = any(
                    v and not now.answers.get(n, ("", None))[1]
                    for n, (_, v) in zip(waiting, told, strict=True)
                )
                now.answers |= dict(zip(waiting, told, strict=True))
                if ended or time.monotonic() - last > _REDRAW:
                    last = time.monotonic()
                    yield now, answers(service, now), table(service, now) if ended else gr.skip()

    def tell(now: Session, event: gr.EventData) -> str:
        return _told(event._data)

    def add_own(now: Session, words: str, ticked: list[str]) -> tuple:
        with shown():
            name = f"text:{words.strip()}"
            service.check_prompt(name)
        if name not in now.own:
            now.own.append(name)
        return now, gr.CheckboxGroup(_choices(service, now), value=[*ticked, name]), ""

    slow: dict[str, Any] = {"concurrency_limit": _AT_ONCE, **PRIVATE}
    outputs = [session, *drawn, facts, said]
    writing = []
    asking = [ask.click, query.submit]
    asked = gr.on(asking, ask_now, [session, query, *chosen[1:]], [*outputs, reveal], js=_VEIL, **slow)
    writing.append(asked.success(write, [session, length], [session, said, facts], **slow))

    def then_catch_up(event: Any) -> None:
        placed = event.success(catch_up, [session, axes, colour], [session, *drawn, facts, reveal], **slow)
        writing.append(placed.success(write, [session, length], [session, said, facts], **slow))

    ticking = prompts.input(draw, chosen, outputs, **QUICK)
    added = add.click(add_own, [session, own, prompts], [session, prompts, own], **QUICK)
    more = added.success(draw, chosen, outputs, **QUICK)
    then_catch_up(ticking)
    then_catch_up(more)
    gr.on([axes.input, colour.input], draw, chosen, outputs, **QUICK)
    # A new question ends the answers to the last one; their threads end at the next word.
    gr.on(asking, None, cancels=writing, **QUICK)
    reveal.click(None, js=_UNVEIL, **QUICK)
    plot.point_click(tell, [session], picked, **QUICK)
    return Explore(query, prompts, chosen, outputs, then_catch_up)


def refreshed(service: Service, session: Session, ticked: Sequence[str], axes: str, colour: str) -> tuple:
    """The tab after the model, its space or its runs have changed: prompts, then what `build` draws."""
    choices = _choices(service, session)
    values = [value for _, value in choices]
    kept = [name for name in ticked if name in values]
    session.tick(kept if kept or not ticked else [n for n in FIRST if n in values])
    if session.query and session.space != service.space_name():
        session.ask("", "")
    return (
        gr.CheckboxGroup(choices, value=session.ticked), session, *picture(service, session, axes, colour),
        table(service, session), answers(service, session),
    )  # fmt: skip


def _choices(service: Service, session: Session) -> list[tuple[str, str]]:
    own = [(f"“{name.removeprefix('text:')[:24]}”", name) for name in session.own]
    return [*((name, name) for name in service.prompt_names()), *own]


def _told(data: Any) -> str:
    """What a clicked point is; what the browser sends is checked, whoever sent it."""
    custom = data.get("customdata") if isinstance(data, dict) else None
    if not isinstance(custom, list) or len(custom) < 3 or not all(isinstance(c, str) for c in custom[:3]):
        return cards.quiet(text.CLICK)
    query = html.escape(html.unescape(custom[0].replace("<br>", " ")))
    note = f" · {html.escape(custom[1])}" if custom[1] else ""
    return f'<p class="picked">{query}<br><small>under {html.escape(custom[2])}{note}</small></p>'
