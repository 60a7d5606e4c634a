"""A prompt that is being edited: the question's point follows the words; what is outdated is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dro.errors import DroError
from explorer import cards, text
from explorer.events import PRIVATE, QUICK
from explorer.messages import shown
from explorer.service import BASE, Service
from explorer.session import Session
from explorer.tabs import drawn

_PAUSE = 450
"""Milliseconds without a keystroke after which the words are placed."""
_DEBOUNCED = f"""(...told) => new Promise(go => {{
  clearTimeout(window.droDraft);
  window.droDraft = setTimeout(() => go(told), {_PAUSE});
}})"""
"""A keystroke that another one follows sends nothing: its promise is never kept."""


@dataclass(frozen=True)
class Drafting:
    """The widgets."""

    start: gr.Dropdown
    own: gr.Textbox
    note: gr.HTML
    add: gr.Button
    length: gr.Slider


def drafting(names: Sequence[str]) -> Drafting:
    """Lay out the box for a prompt of one's own. names: of texts that can be edited."""
    with gr.Accordion(text.OWN, open=False):
        start = gr.Dropdown(list(names), value=None, label=text.DRAFT_START, elem_id="draft-start")
        own = gr.Textbox(placeholder=text.OWN_PLACEHOLDER, label=text.DRAFT, info=text.DRAFT_INFO, lines=3,
                         max_length=3900, elem_id="own")  # fmt: skip
        note = gr.HTML(elem_id="draft-note")
        add = gr.Button(text.OWN_ADD, size="sm")
        length = gr.Slider(8, 120, value=48, step=8, label=text.LENGTH)
    return Drafting(start, own, note, add, length)


def wire(
    service: Service, made: Drafting, session: gr.State, looked: Sequence[Any], drawing: Sequence[Any],
    facts: gr.HTML, table: Callable[[Session], str], asked: Sequence[Any], limit: int,
) -> None:  # fmt: skip
    """Wire it. looked: axes and colour. drawing: plot, legend, caption. table: the html of `facts`.
    asked: events after which there is another question, which is placed under the same words.
    """

    def follow(now: Session, words: str, axes: str, colour: str) -> Iterator[tuple]:
        yield now, *[gr.skip()] * 5  # what ends without a word would empty what it could have changed
        for line in place(service, now, words):
            if line is None:
                yield now, *drawn.picture(service, now, axes, colour), table(now), ""
            else:
                yield now, *[gr.skip()] * 4, cards.quiet(line) if line else ""

    def again(now: Session, words: str, axes: str, colour: str) -> Iterator[tuple]:
        yield now, *[gr.skip()] * 5
        if isinstance(words, str) and words.strip():
            yield from follow(now, words, axes, colour)

    def begin(name: str) -> str:
        with shown():
            return service.words_of(name)
        raise AssertionError

    told = [session, made.own, *looked]
    outputs = [session, *drawing, facts, made.note]
    # Several at a time: whoever types on does not wait for the point of an earlier word.
    options: dict[str, Any] = {"concurrency_limit": limit, "trigger_mode": "multiple", **PRIVATE}
    # Not `input`, which misses deleted and pasted words.
    made.own.change(follow, told, outputs, js=_DEBOUNCED, **options)
    made.start.input(begin, made.start, made.own, **QUICK)
    for event in asked:
        event.success(again, told, outputs, **options)


def place(service: Service, session: Session, words: str) -> Iterator[str | None]:
    """Place the session's question under these words, and make them its draft.

    Yields a line to be told (waiting, or what is wrong; "" where nothing is), and None once the point has
    moved. Ends without a word when newer words, or another question, have come meanwhile.
    """
    session.draft_turn += 1
    mine, query = session.draft_turn, session.query
    name = f"text:{words.strip()}" if isinstance(words, str) and words.strip() else ""
    if not name:
        session.take_draft("", None)
        yield None
        return
    if not query:
        yield text.DRAFT_ASK
        return
    current = lambda: session.draft_turn == mine and session.query == query  # noqa: E731
    try:
        service.check(query, [name])
        ticket = service.place(query, [BASE, name])
        for line in service.lines(ticket):
            if not current():
                return
            yield line
    except DroError as error:
        if current():
            yield str(error)
        return
    if not current():
        return
    base, point = ticket.told
    session.take_draft(name, drawn.placed(service, point, base))
    yield None
