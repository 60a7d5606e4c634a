"""What one visitor has chosen and been told: names, texts and a few numbers; nothing of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Place:
    """A query under one prompt; see dro.space.Point. shift: in the anchors' standard deviations."""

    coordinates: tuple[float, ...]
    refusal: float | None
    harmfulness: float
    shift: float | None
    beyond: bool


@dataclass
class Session:
    """One visitor's page.

    ticked: prompts in the order in which they were ticked; the last one is in focus.
    space: name of the space that places belong to. places, answers: by prompt; an answer is
    (text so far, verdict or None while it is written). own: prompts of the visitor's own.
    """

    ticked: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    space: str = ""
    query: str = ""
    places: dict[str, Place] = field(default_factory=dict)
    answers: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    turn: int = 0
    """Grows with every new question and every new writer, so that an older one knows to stop."""

    def tick(self, names: Sequence[str]) -> None:
        """Take over what is ticked now, keeping the order in which it was ticked."""
        kept = [name for name in self.ticked if name in names]
        self.ticked = kept + [name for name in names if name not in kept]

    def ask(self, query: str, space: str) -> None:
        """Begin a new query: what was told about the last one is forgotten."""
        self.query, self.space = query, space
        self.places, self.answers = {}, {}
        self.turn += 1

    @property
    def missing(self) -> list[str]:
        """Ticked prompts under which the query has no place yet."""
        return [name for name in self.ticked if name not in self.places] if self.query else []

    @property
    def unanswered(self) -> list[str]:
        """Ticked prompts under which the query has no finished answer yet."""
        done = {name for name, (_, verdict) in self.answers.items() if verdict}
        return [name for name in self.ticked if name not in done] if self.query else []

    @property
    def harmful(self) -> bool:
        """The probe takes the query to be harmful, on the mean of its places."""
        return sum(place.harmfulness for place in self.places.values()) > 0
