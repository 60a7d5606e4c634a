"""What Explore draws of a session: its picture, its selection, its ladder; and how points are named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from dro.neighbour_map import MapSettings
from dro.space import Point
from explorer import cards, figures, looking_cards, looking_figures, text, views
from explorer.palette import Colour, key, probability
from explorer.service import BASE, Service
from explorer.session import Asked, Place, Session

MOST_SELECTED = 2400
"""Points of one selection: all anchors of twelve prompts."""
COLOURS: tuple[Colour, ...] = ("class", "verdict", "prompt", "refusal")


def picture(service: Service, session: Session, axes: str, colour: str) -> tuple[str | None, str, str]:
    """Plot json, legend and caption of what is ticked."""
    look = session.looking
    settings = None if look.map is None else MapSettings(*look.map)
    geometry = service.geometry(look.pair, settings if axes == "umap" else None)
    if geometry is None:
        return None, "", cards.quiet(service.stage.text)
    chosen: Colour = next((c for c in COLOURS if c == colour), "class")
    clouds = service.clouds(session.ticked)
    known = [cloud.prompt for cloud in clouds]
    focus = known[-1] if known else None
    faint = next((n for n in (BASE, *known) if n in known and n != focus), None)
    shown = known if chosen == "prompt" else [n for n in (faint, focus) if n]
    view = views.scatter(
        geometry, clouds, shown, _located(service, session), axes,  # type: ignore[arg-type]
        _asked(service, session),
    )  # fmt: skip
    figure = figures.scatter(view, chosen, look.contours, frozenset(look.selected))
    figure.layout.uirevision = f"{view.axes} {look.pair} {look.map} of {service.space_name()}"
    figure.layout.selectionrevision = _hash([*look.selected, view.axes])
    unasked = any(np.isnan(group.refusal_rate).any() for group in view.clouds)
    legend = cards.legend(faint, focus, chosen, unasked, known)
    if axes == "umap":
        return figure.to_json(), legend, _map_caption(geometry, settings)
    return figure.to_json(), legend, cards.caption(view)


def _map_caption(geometry: views.Geometry, settings: MapSettings | None) -> str:
    if geometry.umap is None or settings is None:
        return cards.quiet(text.MAP_FIRST.format(count=len(geometry.anchors)))
    told = text.MAP_CAPTION.format(
        neighbours=settings.neighbours, distance=settings.min_dist, seed=settings.seed
    )
    return f'<p class="caption">{told}</p>'


def placed(service: Service, point: Point, base: Point) -> Place:
    """What a session keeps of a point; its shift is told against `base`."""
    return Place(
        point.coordinates, point.refusal_probability, point.harmfulness_logit, service.shift(point, base),
        point.beyond,
    )  # fmt: skip


def _located(service: Service, session: Session) -> views.Located | None:
    names = sorted((n for n in session.shown if n in session.places), key=lambda name: name != BASE)
    space = service.space
    if not names or space is None or session.space != space.name:
        return None
    places = [session.places[n] for n in names]
    return views.Located(
        session.query, names, np.array([p.coordinates for p in places]), np.array([p.beyond for p in places])
    )


def focused(session: Session) -> str:
    """The prompt in focus: the last one ticked."""
    return session.ticked[-1] if session.ticked else ""


def others(service: Service, session: Session, kind: str) -> list[Asked]:
    """The batch, or the pinned queries that are not the one in hand, as far as they have a place to draw."""
    found = session.batch if kind == "batch" else [p for p in session.pins() if p.query != session.query]
    name = focused(session)
    return [each for each in found if name in each.places and each.space == service.space_name()]


def _asked(service: Service, session: Session) -> list[views.Asked]:
    name = focused(session)
    made = []
    for kind in ("batch", "pin"):
        found = others(service, session, kind)
        if found:
            rates = [_rate(each.answers.get(name, ("", None))[1]) for each in found]
            made.append(views.Asked(
                kind, name, [each.query for each in found],
                np.array([each.places[name].coordinates for each in found]), np.array(rates),
            ))  # fmt: skip
    return made


def _rate(verdict: str | None) -> float:
    return float(verdict == "refused") if verdict else np.nan


def _hash(told: object) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


# Selection -------------------------------------------------------------------------------------------


def keys_of(told: object) -> list[str]:
    """Keys of points as an event of the plot may bring them; what is none is left out."""
    if not isinstance(told, list):
        return []
    found = [each for each in told[:MOST_SELECTED] if isinstance(each, str) and len(each) <= 64]
    return list(dict.fromkeys(each for each in found if each.count(".") == 2))


def picked(service: Service, session: Session, keys: Sequence[str]) -> list[looking_cards.Picked]:
    """What is known of the points with these keys; keys of none are passed over."""
    known = _everything(service, session)
    return [known[each] for each in keys if each in known]


def _everything(service: Service, session: Session) -> dict[str, looking_cards.Picked]:
    found: dict[str, looking_cards.Picked] = {}
    geometry = service.geometry()
    if geometry is None:
        return found
    for cloud in service.clouds(session.ticked):
        logits = geometry.refusal_logits(cloud.coordinates)
        harmfulness = geometry.harmfulness_logits(cloud.coordinates)
        for index, query in enumerate(cloud.queries):
            rate = cloud.refusal_rate[index]
            name = key("anchor", cloud.prompt, index)
            found[name] = looking_cards.Picked(
                name, "anchor", query, cloud.prompt, bool(cloud.harmful[index]),
                None if logits is None else float(probability(logits)[index]), float(harmfulness[index]),
                None if np.isnan(rate) else float(rate),
            )  # fmt: skip
    for prompt in session.shown:
        if prompt in session.places:
            _add(
                found, "query", 0, prompt, session.query, session.places[prompt], session.answers.get(prompt)
            )
    name = focused(session)
    for kind in ("batch", "pin"):
        for index, each in enumerate(others(service, session, kind)):
            _add(found, kind, index, name, each.query, each.places[name], each.answers.get(name))
    return found


def _add(
    found: dict[str, looking_cards.Picked], kind: str, index: int, prompt: str, query: str, place: Place,
    answer: tuple[str, str | None] | None,
) -> None:  # fmt: skip
    name = key(kind, prompt, index)
    said, verdict = answer or ("", None)
    found[name] = looking_cards.Picked(
        name,
        kind,
        query,
        prompt,
        None,
        place.refusal,
        place.harmfulness,
        None,
        said,
        verdict,
        past_key(query),
    )


def query_of(service: Service, session: Session, named: str) -> str | None:
    """The query behind the key of a button; None where it is no longer there."""
    kind, _, index = [*named.split("."), "", "", ""][:3]
    space = service.space
    if (
        kind == "anchor"
        and space is not None
        and index.isdecimal()
        and int(index) < len(space.anchors.queries)
    ):
        return space.anchors.queries[int(index)]
    asked = [*session.history, *session.batch]
    return next((each.query for each in asked if past_key(each.query) == named), None)


def found_by_words(service: Service, session: Session, words: str) -> list[str]:
    """Keys of the anchors in focus, and of the visitor's queries, that hold all the words."""
    wanted = words.lower().split()
    if not wanted:
        return []
    name = focused(session)
    return [
        each.key for each in _everything(service, session).values()
        if each.prompt == name and all(word in each.query.lower() for word in wanted)
    ][:MOST_SELECTED]  # fmt: skip


# Comparing -------------------------------------------------------------------------------------------


def ladder(service: Service, session: Session) -> str | None:
    """The query under the ticked prompts along the refusal direction; None where there is nothing to show."""
    geometry = service.geometry()
    if geometry is None or geometry.refusal is None or session.space != service.space_name():
        return None
    clouds = {cloud.prompt: cloud for cloud in service.clouds(session.ticked)}
    rungs = [
        _rung(geometry, prompt, clouds.get(prompt), session.places[prompt],
              session.answers.get(prompt, ("", None))[1])
        for prompt in sorted(session.ticked, key=lambda name: name not in clouds)
        if prompt in session.places
    ]  # fmt: skip
    return looking_figures.ladder(rungs, BASE, session.query).to_json() if rungs else None


def _rung(
    geometry: views.Geometry, prompt: str, cloud: views.Cloud | None, place: Place, verdict: str | None
) -> looking_figures.Rung:
    """A prompt's place on the ladder; cloud: its anchors, which a prompt of one's own does not have."""
    logit = geometry.refusal_logits(np.array([place.coordinates]))
    assert logit is not None
    if cloud is None:
        return looking_figures.Rung(prompt, float(logit[0]), np.nan, np.nan, verdict)
    means = geometry.refusal_logits(cloud.coordinates)
    assert means is not None
    return looking_figures.Rung(
        prompt, float(logit[0]), float(means[cloud.harmful].mean()),
        float(means[~cloud.harmful].mean()), verdict,
    )  # fmt: skip


def aligned(service: Service, session: Session) -> str:
    """The answers one below the other, their differences marked."""
    told = [(name, session.answers[name]) for name in session.ticked if name in session.answers]
    return looking_cards.aligned([n for n, _ in told], [a for _, a in told], BASE, session.harmful)


def openings(session: Session) -> str:
    """First tokens under the ticked prompts, as far as they were asked for."""
    names = [name for name in session.ticked if name in session.openings]
    return looking_cards.openings(names, [session.openings[name] for name in names]) if names else ""


# Batch and history -------------------------------------------------------------------------------------


def batch(service: Service, session: Session) -> str:
    """The batch as a table."""
    name = focused(session)
    rows = []
    for each in session.batch:
        if each.space != service.space_name():
            continue
        said, verdict = each.answers.get(name, ("", None))
        rows.append(looking_cards.BatchRow(
            past_key(each.query), each.query, {p: each.places[p].refusal for p in each.places},
            {p: each.places[p].harmfulness for p in each.places}, said, verdict,
        ))  # fmt: skip
    asked = [name for name in session.ticked if any(name in each.places for each in session.batch)]
    return looking_cards.batch(rows, asked, name)


def past_key(query: str) -> str:
    """What names a query of the history in events."""
    return key("past", query, 0)


def history(service: Service, session: Session) -> tuple[str, str]:
    """Pinned queries beside each other, and all of the session's queries, newest first."""
    here = service.space_name()
    rows = [
        looking_cards.Past(
            past_key(old.query), old.query, {n: p.refusal for n, p in old.places.items()},
            {n: verdict for n, (_, verdict) in old.answers.items()}, old.pinned, old.space == here,
        )
        for old in session.history
    ]  # fmt: skip
    pins = [row for row in rows if row.pinned]
    names = [name for name in session.ticked if any(name in row.refusal for row in pins)]
    return looking_cards.pinned(pins, names), looking_cards.history(rows[::-1])
