"""What a link to the page says: how things are looked at, by names and numbers; words only where chosen.

It stands behind the # of an address, which browsers keep to themselves: no server, and no log of one, sees
it. Whatever is read from there may be forged: what is none of ours is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

OWN = "text:"
MOST, _FIELDS = 40_000, 48
"""Characters of a link that is still read, and its parts."""
_LONGEST = {"p": 4000, "q": 8000}
"""Characters of a prompt's name and of a question; names of everything else are short."""
_SHORT = 64


@dataclass(frozen=True)
class Link:
    """One state of the page. None and () stand for what the link does not say.

    prompts: ticked ones, in order; "text:" and words is a prompt of one's own. map: neighbours, least
    distance and seed. run: the one that is followed in Optimise.
    """

    tab: str = ""
    prompts: tuple[str, ...] = ()
    axes: str = ""
    colour: str = ""
    pair: tuple[int, int] | None = None
    contours: bool | None = None
    map: tuple[int, float, int] | None = None
    layer: int | None = None
    run: str = ""
    query: str = ""


def write(link: Link, words: bool) -> str:
    """The part of an address behind the #. words: the question and prompts of one's own are in it, too."""
    told: list[tuple[str, str]] = [("p", name) for name in link.prompts if words or not name.startswith(OWN)]
    told += [("tab", link.tab), ("view", link.axes), ("colour", link.colour), ("run", link.run)]
    if link.pair is not None:
        told.append(("pair", _numbers(link.pair)))
    if link.map is not None:
        told.append(("map", _numbers(link.map)))
    if link.contours is not None:
        told.append(("contours", str(int(link.contours))))
    if link.layer is not None:
        told.append(("layer", str(link.layer)))
    if words:
        told.append(("q", link.query))
    return urlencode([(name, value) for name, value in told if value])


def read(told: object) -> Link:
    """What a link says; an empty one for anything that is no link."""
    if not isinstance(told, str) or len(told) > MOST:
        return Link()
    try:
        pairs = parse_qsl(told.lstrip("#"), max_num_fields=_FIELDS, errors="strict")
    except ValueError:
        return Link()
    kept = [(name, value) for name, value in pairs if len(value) <= _LONGEST.get(name, _SHORT)]
    last = dict(kept)
    pair, map_, layer = (_read_numbers(last.get(name, "")) for name in ("pair", "map", "layer"))
    return Link(
        last.get("tab", ""),
        tuple(dict.fromkeys(value for name, value in kept if name == "p")),
        last.get("view", ""),
        last.get("colour", ""),
        (int(pair[0]), int(pair[1])) if len(pair) == 2 and _whole(pair) else None,
        {"0": False, "1": True}.get(last.get("contours", "")),
        (int(map_[0]), map_[1], int(map_[2])) if len(map_) == 3 and _whole(map_[::2]) else None,
        int(layer[0]) if len(layer) == 1 and _whole(layer) else None,
        last.get("run", ""),
        last.get("q", ""),
    )


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _read_numbers(told: str) -> tuple[float, ...]:
    try:
        found = tuple(float(each) for each in told.split(",")) if told else ()
    except ValueError:
        return ()
    return found if all(map(math.isfinite, found)) else ()


def _whole(values: Sequence[float]) -> bool:
    return all(value == int(value) and 0 <= value < 2**31 for value in values)
