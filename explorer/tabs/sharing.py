"""Links: the state of the page as an address to copy, and a page that begins where a link says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from dro.data import check_query
from dro.errors import DataError, DroError
from dro.neighbour_map import MapSettings
from explorer import cards, links, text
from explorer.events import PRIVATE, QUICK
from explorer.links import Link
from explorer.messages import shown
from explorer.requested import MOST_PROMPTS
from explorer.service import Service
from explorer.session import Session
from explorer.tabs import explore
from explorer.tabs.explore import Explore
from explorer.tabs.layers import LayersTab
from explorer.tabs.optimise import UNSEEN, Optimise

TABS = ("explore", "optimise", "evaluate-tab", "layers", "learn", "model")
_POLL = 0.3
_TAB = "document.querySelector('[role=tab][aria-selected=true][data-tab-id]')?.dataset.tabId ?? ''"
"""The main tabs are the first of the page."""
_ASK_TAB = f"(...told) => {{ told[told.length - 1] = {_TAB}; return told; }}"
_READ = """(...told) => {
  told[told.length - 1] = location.hash;
  // Another link pasted into the same page: begin anew.
  if (!window.droLinks) addEventListener('hashchange', () => location.reload());
  window.droLinks = true;
  return told;
}"""
_COPY = """async fragment => {
  const link = location.origin + location.pathname + '#' + fragment;
  try { await navigator.clipboard.writeText(link); }
  catch {  // without https only the old way is open
    const box = Object.assign(document.createElement('textarea'), {value: link});
    document.body.append(box); box.select(); document.execCommand('copy'); box.remove();
  }
  return link;
}"""


@dataclass(frozen=True)
class Sharing:
    """The widgets: whether words go into the link, the button, the link for the eye, and what a link that was
    followed names in vain."""

    words: gr.Checkbox
    copy: gr.Button
    link: gr.Textbox
    note: gr.HTML


def sharing() -> Sharing:
    """Lay out the row under the head: the button, what belongs to it, and the one for large type."""
    with gr.Row(elem_id="share"):
        copy = gr.Button(text.COPY_LINK, size="sm", scale=0, min_width=110, elem_id="copy-link")
        words = gr.Checkbox(False, label=text.LINK_WORDS, container=False, scale=0, min_width=270,
                            elem_id="link-words")  # fmt: skip
        # assets/large_type.js listens to it.
        gr.Button(text.LARGE_TYPE, size="sm", scale=0, min_width=110, elem_id="large-type")
        link = gr.Textbox(visible=False, label=text.LINK_COPIED, interactive=False, max_lines=1, scale=3,
                          elem_id="link")  # fmt: skip
    note = gr.HTML(elem_id="link-note")
    return Sharing(words, copy, link, note)


def wire(
    service: Service, page: gr.Blocks, made: Sharing, tabs: gr.Tabs, exploring: Explore, optimising: Optimise,
    layers: LayersTab,
) -> None:  # fmt: skip
    """Wire the button, and what happens when the page is opened by a link."""
    session, prompts, axes, colour = exploring.chosen
    look = exploring.look
    told, fragment = gr.Textbox(visible=False), gr.Textbox(visible=False)

    def tell(
        now: Session, query: str, ticked: list[str], axes: str, colour: str, layer: Any, layers_seen: Any,
        run: str, words: bool, tab: str,
    ) -> tuple:  # fmt: skip
        now.tick(ticked)
        drawn = bool(layers_seen) and bool(layers_seen[2])
        link = state(now, query, axes, colour, int(layer) if drawn else None, run, tab)
        told = links.write(link, bool(words))
        with shown():
            if len(told) > links.MOST:
                raise DataError("With your words this link is too long.", "Leave them out, or ask in fewer.")
        return told, gr.Textbox(visible=True)

    def begin(now: Session, address: str) -> Iterator[dict[Any, Any]]:
        link = known(service, links.read(address))
        if link == Link():
            yield {session: now}
            return
        waiting = _waits(service, link)
        with shown():
            yield _restored(now, link, waiting)
            while waiting and not service.settled:
                time.sleep(_POLL)
            if waiting:
                yield _later(now, link)

    def start(now: Session) -> Session:
        now.begun = True
        return now

    def _restored(now: Session, link: Link, waiting: bool) -> dict[Any, Any]:
        names, query = _names(service, link), link.query
        now.looking = replace(
            now.looking, pair=link.pair or now.looking.pair, map=link.map or now.looking.map,
            contours=now.looking.contours if link.contours is None else link.contours,
        )  # fmt: skip
        now.own += [name for name in names if name.startswith(links.OWN) and name not in now.own]
        shown_axes, shown_colour = link.axes or "components", link.colour or "class"
        if names:
            now.ticked = []
        drawn = explore.refreshed(service, now, names or now.ticked, shown_axes, shown_colour)
        settings = MapSettings() if link.map is None else MapSettings(*link.map)
        return {
            **_drawn(now, drawn), **_run(link), layers.wanted: _wanted(link),
            tabs: gr.Tabs(selected=link.tab) if link.tab else gr.skip(),
            exploring.query: query or gr.skip(), axes: shown_axes, colour: shown_colour,
            look.pair[0]: now.looking.pair[0], look.pair[1]: now.looking.pair[1],
            look.pair_row: gr.Row(visible=shown_axes == "pair"),
            look.map_row: gr.Column(visible=shown_axes == "umap"),
            look.settings[0]: settings.neighbours, look.settings[1]: settings.min_dist,
            look.settings[2]: settings.seed, look.contours: now.looking.contours,
            made.note: "" if waiting else missing_html(service, link),
        }  # fmt: skip

    def _drawn(now: Session, drawn: Sequence[Any]) -> dict[Any, Any]:
        """What is drawn of the space, by widget."""
        picture = dict(zip(exploring.picture[1:], drawn[2:], strict=True))
        return {session: now, prompts: drawn[0], **picture}

    def _run(link: Link) -> dict[Any, Any]:
        there = link.run in service.run_names()
        return {optimising.run: link.run, optimising.seen: UNSEEN} if there else {}

    def _later(now: Session, link: Link) -> dict[Any, Any]:
        """What had to wait for the model: runs, and prompts that are runs."""
        names = list(dict.fromkeys([*now.ticked, *_names(service, link)]))[: MOST_PROMPTS - 1]
        drawn = explore.refreshed(service, now, names, link.axes or "components", link.colour or "class")
        return {**_drawn(now, drawn), **_run(link), made.note: missing_html(service, link)}

    outputs = [
        session, tabs, exploring.query, prompts, axes, colour, *look.pair, look.pair_row, look.map_row,
        *look.settings, look.contours, *exploring.picture[1:], layers.wanted, optimising.run,
        optimising.seen, made.note,
    ]  # fmt: skip
    asked = [
        session, exploring.query, prompts, axes, colour, layers.layer, layers.seen, optimising.run,
        made.words, told,
    ]  # fmt: skip
    made.copy.click(tell, asked, [fragment, made.link], js=_ASK_TAB, **QUICK).success(
        None, fragment, made.link, js=_COPY, **QUICK
    )
    opened = page.load(begin, [session, told], outputs, js=_READ, concurrency_limit=64, **PRIVATE)
    opened.then(start, session, session, **QUICK)
    layers.draw(opened)
    exploring.asked(opened)


def state(
    session: Session, query: str, axes: str, colour: str, layer: int | None, run: object, tab: object
) -> Link:
    """What a link to this page says."""
    looking = session.looking
    return Link(
        tab if isinstance(tab, str) and tab in TABS else "",
        tuple(session.ticked), axes, colour, looking.pair if axes == "pair" else None,
        looking.contours or None, looking.map if axes == "umap" else None, layer,
        run if isinstance(run, str) else "", query if isinstance(query, str) else "",
    )  # fmt: skip


def known(service: Service, link: Link) -> Link:
    """A link without the views, colours, components, layers and questions that there are none of here."""
    geometry, layers = service.geometry(), service.layers
    views, colours = ({value for _, value in each} for each in (text.VIEW_CHOICES, text.COLOURS))
    most = geometry.m if geometry else 0
    pair = link.pair
    if pair is not None and (max(pair) >= most or pair[0] == pair[1]):
        pair = None
    settings, query = link.map, link.query
    try:
        if settings is not None:
            MapSettings(*settings)
    except DroError:
        settings = None
    try:
        if query:
            check_query(query)
    except DroError:
        query = ""
    layer = link.layer
    if layer is not None and layers is not None and layer >= len(layers):
        layer = None
    return replace(
        link, tab=link.tab if link.tab in TABS else "", axes=link.axes if link.axes in views else "",
        colour=link.colour if link.colour in colours else "", pair=pair, map=settings, layer=layer,
        query=query, prompts=link.prompts[: MOST_PROMPTS - 1],
    )  # fmt: skip


def _wanted(link: Link) -> Any:
    """The layer at which its tab begins: any number opens it, one that is none at the last layer."""
    if link.layer is not None:
        return link.layer
    return -1 if link.tab == "layers" else gr.skip()


def _names(service: Service, link: Link) -> list[str]:
    """Those of the link's prompts that can be ticked now."""
    there = service.prompt_names()
    found = []
    for name in link.prompts:
        if name in there:
            found.append(name)
        elif name.startswith(links.OWN):
            try:
                service.check_prompt(name)
            except DroError:
                continue
            found.append(name)
    return found


def _waits(service: Service, link: Link) -> bool:
    """The link names what is known only once the model is there."""
    return not service.settled and bool(link.run or len(_names(service, link)) < len(link.prompts))


def missing_html(service: Service, link: Link) -> str:
    """What the link names that is not here, cut short; words of one's own are not repeated."""
    there = _names(service, link)
    found = [name for name in link.prompts if name not in there]
    if link.run and link.run not in service.run_names():
        found.append(link.run)
    told = dict.fromkeys(name[:40] for name in found if not name.startswith(links.OWN))
    return cards.quiet(text.LINK_MISSING.format(names=", ".join(told))) if told else ""
