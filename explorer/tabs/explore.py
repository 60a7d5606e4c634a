"""Explore: type a question, see where it lands under several safety prompts, read the answers."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from explorer import cards, live_table, text
from explorer.events import PRIVATE, QUICK
from explorer.live_plot import live_plot
from explorer.messages import shown
from explorer.service import BASE, Service
from explorer.session import Asked, Session
from explorer.tabs import comparing, drafting, gallery, looking
from explorer.tabs import drawn as pictures
from explorer.tabs import prompts as prompted
from explorer.tabs.drawn import past_key, picture

_REDRAW = 0.25
"""Seconds between redraws while answers are written."""
_AT_ONCE = 64
"""Visitors who may wait at the same time; at the model they take turns."""
_MOST_TOLD = 12_000
"""Characters of a clicked point's label: a query, its entities written out."""
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
    asked: Callable[[Any], None]
    """Ask the question that an event has put into the box; none where there is none."""
    look: looking.Controls
    gallery: gallery.Gallery
    ticked: Callable[[Any], None]
    """Redraw, place and answer after an event that has ticked prompts."""


def table(service: Service, session: Session) -> str:
    """The table of the query's places and observed verdicts."""
    trained = service.trained()
    rows = []
    for name in session.shown:
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
    for _ in locating(service, session, prompts):
        pass


def locating(service: Service, session: Session, prompts: Sequence[str]) -> Iterator[str]:
    """`locate`, telling the place in the line while it waits."""
    names = list(dict.fromkeys([BASE, *prompts]))
    places = session.places  # of this question: the session may have another when its turn has come
    ticket = service.place(session.query, names)
    yield from service.lines(ticket)
    points = dict(zip(names, ticket.told, strict=True))
    for name in prompts:
        places[name] = pictures.placed(service, points[name], points[BASE])


def build(service: Service) -> Explore:
    """Lay out and wire the tab."""
    names = service.prompt_names()
    first = Session(ticked=[n for n in FIRST if n in names] or names[:2])
    plot_json, legend_html, caption_html = picture(service, first, "components", "class")
    session = gr.State(first)
    with gr.Row(equal_height=False, elem_id="explore-row"):
        with gr.Column(scale=6, min_width=340):
            legend = gr.HTML(legend_html)
            plot = live_plot("Anchors and your question in the representation space", plot_json, 450,
                             select=True, elem_id="space-plot")  # fmt: skip
            caption = gr.HTML(caption_html)
            told = gr.HTML(cards.quiet(text.CLICK), elem_id="picked")
            look = looking.controls(service)
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
            draft = drafting.drafting(service.text_names())
            facts = gr.HTML(table(service, first), elem_id="facts")
            reveal = gr.Button(text.REVEAL, visible=False, size="sm", elem_id="reveal")
            stop = gr.Button(text.STOP_WRITING, visible=False, variant="stop", size="sm",
                             elem_id="stop-answers")  # fmt: skip
            side = looking.side()
    with gr.Tabs(elem_id="more"):
        with gr.Tab(text.TAB_ANSWERS, id="answers"):
            said = gr.HTML(cards.quiet(text.NO_ANSWERS), elem_id="answers")
        compare = comparing.compare()
        batch = comparing.batch(service)
        past = comparing.history()
        alike = prompted.similarity()
        trained = gallery.gallery()

    axes, colour = look.axes, look.colour
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
            for line in locating(service, now, now.ticked):
                if now.turn != mine + 1:
                    yield (now, *[gr.skip()] * 6)  # as in `write`
                    return
                yield (now, *[gr.skip()] * 3, cards.quiet(line), gr.skip(), gr.skip())
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
            # Ending without a word would empty what it could have changed.
            yield now, gr.skip(), gr.skip(), gr.skip()
            return
        now.turn += 1
        mine, last = now.turn, 0.0
        now.writer = mine
        current = lambda: now.turn == mine  # noqa: E731
        yield now, gr.skip(), gr.skip(), gr.Button(visible=True)
        try:
            with shown():
                for told in service.stream_answers(now.query, waiting, int(length), current):
                    ended = any(
                        v and not now.answers.get(n, ("", None))[1]
                        for n, (_, v) in zip(waiting, told, strict=True)
                    )
                    now.write(waiting, told)
                    if ended or time.monotonic() - last > _REDRAW:
                        last = time.monotonic()
                        facts_html = table(service, now) if ended else gr.skip()
                        yield now, answers(service, now), facts_html, gr.skip()
        finally:
            if now.writer == mine:
                now.writer = 0

    def stop_writing(now: Session) -> tuple:
        now.stop()
        return answers(service, now), table(service, now), gr.Button(visible=False)

    def add_own(now: Session, words: str, ticked: list[str]) -> tuple:
        with shown():
            name = f"text:{words.strip()}"
            service.check_prompt(name)
        if name not in now.own:
            now.own.append(name)
        now.draft_turn += 1  # whatever of it is still being placed comes too late
        now.take_draft("", None)
        return now, gr.CheckboxGroup(choices(service, now), value=[*ticked, name]), ""

    def pressed(now: Session, event: gr.EventData) -> str:
        """The query whose button was pressed in a table, to be asked."""
        what, key = live_table.pressed(event._data)
        found = pictures.query_of(service, now, key) if what == "ask" else None
        if found is None:
            raise gr.Error(text.GONE, print_exception=False)
        return found

    def pinned(now: Session, axes: str, colour: str, event: gr.EventData) -> tuple:
        old = _past(now, event, "pin")
        if old is None:
            return (gr.skip(),) * 6
        now.pin(old)
        return now, *picture(service, now, axes, colour), *pictures.history(service, now)

    def back(now: Session, axes: str, colour: str, event: gr.EventData) -> tuple:
        old = _past(now, event, "back")
        if old is None or old.space != service.space_name():
            return (gr.skip(),) * 10
        now.recall(old)
        return (
            old.query, now, *picture(service, now, axes, colour), table(service, now), answers(service, now),
            gr.Button(visible=now.harmful), *pictures.history(service, now),
        )  # fmt: skip

    def rest(now: Session) -> tuple:
        """The tabs below, after something was asked or answered."""
        return (*comparing.look(service, now), *pictures.history(service, now))

    slow: dict[str, Any] = {"concurrency_limit": _AT_ONCE, **PRIVATE}
    outputs = [session, *drawn, facts, said]
    pasts = [past.pins, past.table]
    writing = []
    taken = [each.press(pressed, session, query, **QUICK) for each in (side.table, batch.table)]
    asking = [ask.click, query.submit]
    sent, answered = [session, query, *chosen[1:]], [*outputs, reveal]
    asked = [gr.on(asking, ask_now, sent, answered, js=_VEIL, **slow)]
    asked += [event.success(ask_now, sent, answered, js=_VEIL, **slow) for event in taken]

    def then_write(event: Any) -> None:
        event.success(rest, session, [*compare.looked, *pasts], **QUICK)
        written = event.success(write, [session, draft.length], [session, said, facts, stop], **slow)
        written.then(lambda now: gr.Button(visible=bool(now.writer)), session, stop, **QUICK)
        written.success(rest, session, [*compare.looked, *pasts], **QUICK)
        writing.append(written)

    def then_catch_up(event: Any) -> None:
        then_write(event.success(catch_up, [session, axes, colour], [session, *drawn, facts, reveal], **slow))

    for event in asked:
        then_write(event)

    def ask_there(now: Session, asked: str, *rest: Any) -> Iterator[tuple]:
        yield (now, *[gr.skip()] * 6)
        if isinstance(asked, str) and asked.strip():
            yield from ask_now(now, asked, *rest)

    def then_ask(event: Any) -> None:
        then_write(event.success(ask_there, sent, answered, **slow))

    added = draft.add.click(add_own, [session, draft.own, prompts], [session, prompts, draft.own], **QUICK)

    def then_draw(event: Any) -> None:
        then_catch_up(event.success(draw, chosen, outputs, **QUICK))

    then_catch_up(prompts.input(draw, chosen, outputs, **QUICK))
    for event in (added, comparing.wire_compare(service, compare, session, prompts, _AT_ONCE)):
        then_draw(event)
    # A new question ends the answers to the last one; their threads end at the next word.
    gr.on(asking, None, cancels=writing, **QUICK)
    for each in (side.table, batch.table):
        each.press(None, cancels=writing, **QUICK)
    # Drawn once more when it is over: a word that was on its way may arrive after the first drawing.
    stop.click(stop_writing, session, [said, facts, stop], cancels=writing, **QUICK).success(
        lambda now: (answers(service, now), table(service, now), *rest(now)),
        session, [said, facts, *compare.looked, *pasts], **QUICK
    )  # fmt: skip
    reveal.click(None, js=_UNVEIL, **QUICK)
    looking.wire(service, session, prompts, plot, legend, caption, told, look, side, _told)
    comparing.wire_batch(service, batch, chosen, drawn, _AT_ONCE)
    drafting.wire(service, draft, session, chosen[2:], drawn, facts, lambda now: table(service, now), asked,
                  _AT_ONCE)  # fmt: skip
    prompted.wire(service, alike, session, prompts)
    past.tab.select(lambda now: pictures.history(service, now), session, pasts, **QUICK)
    for each in pasts:
        each.press(pinned, [session, axes, colour], [session, *drawn, *pasts], **QUICK)
    again = past.table.press(back, [session, axes, colour], [query, *outputs, reveal, *pasts], js=_VEIL,
                             **QUICK)  # fmt: skip
    again.success(lambda now: comparing.look(service, now), session, compare.looked, **QUICK)
    return Explore(query, prompts, chosen, outputs, then_catch_up, then_ask, look, trained, then_draw)


def _past(now: Session, event: gr.EventData, wanted: str) -> Asked | None:
    """The query of the history whose button was pressed, if it was that button."""
    what, key = live_table.pressed(event._data)
    return next((old for old in now.history if what == wanted and past_key(old.query) == key), None)


def refreshed(service: Service, session: Session, ticked: Sequence[str], axes: str, colour: str) -> tuple:
    """The tab after the model, its space or its runs have changed: prompts, then what `build` draws."""
    offered = choices(service, session)
    values = [value for _, value in offered]
    for gone in [name for name in session.told if name not in values and not name.startswith("text:")]:
        session.forget(gone)  # another run may bear its name one day
    kept = [name for name in ticked if name in values]
    session.tick(kept if kept or not ticked else [n for n in FIRST if n in values])
    if session.query and session.space != service.space_name():
        session.ask("", "")
    return (
        gr.CheckboxGroup(offered, value=session.ticked), session, *picture(service, session, axes, colour),
        table(service, session), answers(service, session),
    )  # fmt: skip


def choices(service: Service, session: Session) -> list[tuple[str, str]]:
    """Prompts that can be ticked, the visitor's own among them."""
    own = [(f"“{name.removeprefix('text:')[:24]}”", name) for name in session.own]
    return [*((name, name) for name in service.prompt_names()), *own]


def _told(data: Any) -> str:
    """What a clicked point is; what the browser sends is checked, whoever sent it."""
    custom = data.get("customdata") if isinstance(data, dict) else None
    if not isinstance(custom, list) or len(custom) < 3 or not all(isinstance(c, str) for c in custom[:3]):
        return cards.quiet(text.CLICK)
    # Labels of the figure are escaped already; whatever else was sent is escaped here.
    query, said, prompt = (
        html.escape(html.unescape(part[:_MOST_TOLD].replace("<br>", " "))) for part in custom[:3]
    )
    note = f" · {said}" if said else ""
    return f'<p class="picked">{query}<br><small>under {prompt}{note}</small></p>'
