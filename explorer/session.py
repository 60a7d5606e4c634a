"""What one visitor has chosen and been told: names, texts and a few numbers; nothing of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_REMEMBERED = 40
"""Queries of a session's history; pinned ones stay."""
MOST_PINNED = 8


@dataclass(frozen=True)
class Place:
    """A query under one prompt; see dro.space.Point. shift: in the anchors' standard deviations."""

    coordinates: tuple[float, ...]
    refusal: float | None
    harmfulness: float
    shift: float | None
    beyond: bool


Answer = tuple[str, str | None]
"""Text so far, and the verdict, or None while it is written."""


@dataclass(eq=False)
class Asked:
    """One query, and what was told about it; shared between the page and its history."""

    query: str
    space: str
    places: dict[str, Place] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    pinned: bool = False


@dataclass
class Looking:
    """How the plot is looked at. pair: components of the axes "pair". map: neighbours, least distance and
    seed of the map that was fitted, or None. selected: keys of points.
    """

    pair: tuple[int, int] = (0, 1)
    contours: bool = False
    map: tuple[int, float, int] | None = None
    selected: list[str] = field(default_factory=list)


@dataclass
class Session:
    """One visitor's page.

    ticked: prompts in the order in which they were ticked; the last one is in focus.
    space: name of the space that places belong to. places, answers: by prompt. own: prompts of the
    visitor's own. history: newest last. batch: queries that were asked together.
    """

    ticked: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    space: str = ""
    query: str = ""
    places: dict[str, Place] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    turn: int = 0
    """Grows with every new question and every new writer, so that an older one knows to stop."""
    writer: int = 0
    """The turn of whoever writes answers now; 0: nobody."""
    looking: Looking = field(default_factory=Looking)
    history: list[Asked] = field(default_factory=list)
    batch: list[Asked] = field(default_factory=list)
    openings: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    """By prompt: the likeliest first tokens of the answer, as far as somebody wanted to see them."""
    batch_turn: int = 0
    """Grows with every batch that is begun or stopped."""

    begun: bool = False
    """The page shows what its link said: before that, what it sends is not what it is about to show."""
    draft: str = ""
    """A prompt that is being edited, "text:" before its words: placed, neither ticked nor answered."""
    draft_turn: int = 0
    """Grows with every change of its words, so that an outdated place is dropped."""
    opened: list[str] = field(default_factory=list)
    """Trained prompts that are looked into: one, or two beside each other."""
    sort: str = "newest"
    renaming: str = ""
    deleted: tuple[str, str] = ("", "")
    """Name and place in the trash of the run that was deleted last."""

    def rename(self, old: str, new: str) -> None:
        """A run has another name: what is known under the old one is known under the new one."""
        self.ticked = [new if name == old else name for name in self.ticked]
        self.opened = [new if name == old else name for name in self.opened]
        for told in self._told():
            if old in told:
                told[new] = told.pop(old)

    def forget(self, name: str) -> None:
        """A prompt is gone: nothing that was told under it is kept."""
        self.opened = [each for each in self.opened if each != name]
        for told in self._told():
            told.pop(name, None)

    @property
    def told(self) -> list[str]:
        """Every prompt that something was told under."""
        return list(dict.fromkeys(name for told in self._told() for name in list(told)))

    def _told(self) -> list[dict[str, Any]]:
        kept: list[dict[str, Any]] = [self.places, self.answers, self.openings]
        return kept + [told for each in (*self.history, *self.batch) for told in (each.places, each.answers)]

    def take_draft(self, name: str, place: Place | None) -> None:
        """The prompt that is being edited has other words now; `place` of the query under them."""
        if self.draft != name and self.draft not in self.ticked:
            self.places.pop(self.draft, None)
        self.draft = name
        if place is not None:
            self.places[name] = place

    @property
    def shown(self) -> list[str]:
        """Prompts under which the query is drawn: the ticked ones, then the one that is being edited."""
        more = self.draft and self.draft not in self.ticked
        return [*self.ticked, self.draft] if more else self.ticked

    def tick(self, names: Sequence[str]) -> None:
        """Take over what is ticked now, keeping the order in which it was ticked."""
        kept = [name for name in self.ticked if name in names]
        self.ticked = kept + [name for name in names if name not in kept]

    def ask(self, query: str, space: str) -> None:
        """Begin a new query: what was told about the last one stays in the history."""
        self.query, self.space = query, space
        self.places, self.answers, self.openings = {}, {}, {}
        self.turn += 1
        if not query:
            return
        pinned = any(old.pinned for old in self.history if old.query == query)
        self.history = [old for old in self.history if old.query != query]
        self.history.append(Asked(query, space, self.places, self.answers, pinned))
        for old in [each for each in self.history if not each.pinned][:-MOST_REMEMBERED]:
            self.history.remove(old)

    def recall(self, old: Asked) -> None:
        """Go back to a query of the history, with all that was told about it."""
        self.query, self.space, self.places, self.answers = old.query, old.space, old.places, old.answers
        self.openings = {}
        self.turn += 1

    def pin(self, old: Asked) -> None:
        """Pin a query of the history, or let it go; at most MOST_PINNED are pinned."""
        old.pinned = not old.pinned and len(self.pins()) < MOST_PINNED

    def pins(self) -> list[Asked]:
        """Pinned queries, oldest first."""
        return [old for old in self.history if old.pinned]

    @property
    def missing(self) -> list[str]:
        """Ticked prompts under which the query has no place yet."""
        return [name for name in self.ticked if name not in self.places] if self.query else []

    @property
    def unanswered(self) -> list[str]:
        """Ticked prompts under which the query has no answer yet that is finished or was stopped."""
        done = {name for name, (_, verdict) in self.answers.items() if verdict is not None}
        return [name for name in self.ticked if name not in done] if self.query else []

    def write(self, names: Sequence[str], told: Sequence[Answer]) -> None:
        """Take over what has been written so far; what was stopped meanwhile stays as it is."""
        for name, answer in zip(names, told, strict=True):
            if self.answers.get(name, ("", None))[1] is None:
                self.answers[name] = answer

    def stop(self) -> None:
        """End what is being written; a stopped answer keeps its words and has the verdict ""."""
        self.turn += 1
        for name in self.unanswered:
            self.answers[name] = (self.answers.get(name, ("", None))[0], "")

    @property
    def harmful(self) -> bool:
        """The probe takes the query to be harmful, on the mean of its places."""
        return sum(place.harmfulness for place in self.places.values()) > 0
