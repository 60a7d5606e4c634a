"""What a step of the tour is made of; the tab turns it into widgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from explorer.lessons.material import Material

Chosen = Mapping[str, Any]
"""What the learner has set: values of a step's controls by key, and "solved": the question is answered."""


@dataclass(frozen=True)
class Choice:
    """Pick one. options: (label, value). many: shown as a drop-down list rather than as buttons.
    half: it shares a row with the next one that is half."""

    key: str
    label: str
    options: Sequence[tuple[str, Any]]
    value: Any
    many: bool = False
    half: bool = False


@dataclass(frozen=True)
class Slide:
    """A number between low and high."""

    key: str
    label: str
    low: float
    high: float
    step: float
    value: float
    half: bool = False


@dataclass(frozen=True)
class Kept:
    """A value without a widget, kept for one visitor."""

    key: str
    value: Any


Control = Choice | Slide | Kept


@dataclass(frozen=True)
class Question:
    """A question whose right answer was computed. options[right] is true, all others are false.

    why: said once it is answered. hint: said after a wrong answer; it must not give the answer away.
    """

    ask: str
    options: tuple[str, ...]
    right: int
    why: str
    hint: str


@dataclass(frozen=True)
class Target:
    """What "Try it" sets in a real tab: "explore", "optimise" or "evaluate".

    None leaves a control as it is. axes, colour: of Explore. preset: of Optimise.
    """

    tab: str
    query: str | None = None
    prompts: tuple[str, ...] = ()
    axes: str = "components"
    colour: str = "class"
    preset: str = "quick"


def _nothing(key: str, chosen: Chosen) -> dict[str, Any]:
    return {}


def _no_click(data: Any, chosen: Chosen) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Step:
    """One step.

    name: one or two words. says: html, what there is to know. figure: what it shows, in words, for those
    who cannot see it. follow: which other controls change, and to what, when the one called `key` has.
    click: which controls change when the point with this customdata is clicked; the data may be anything.
    """

    name: str
    title: str
    says: Callable[[Material], str]
    figure: str
    controls: Callable[[Material], Sequence[Control]]
    draw: Callable[[Material, Chosen], go.Figure]
    notice: Callable[[Material, Chosen], str]
    question: Callable[[Material, Chosen], Question]
    target: Callable[[Material, Chosen], Target]
    follow: Callable[[str, Chosen], dict[str, Any]] = _nothing
    click: Callable[[Any, Chosen], dict[str, Any]] = _no_click

    def start(self, material: Material) -> dict[str, Any]:
        """The values of the controls before anybody touched them."""
        return {control.key: control.value for control in self.controls(material)}
