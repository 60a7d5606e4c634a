"""What the tab Learn is made of: a visitor's place in the tour, widgets of a step, and small html."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from explorer.lessons import text
from explorer.lessons.material import Material
from explorer.lessons.step import Choice, Control, Kept, Slide, Step
from explorer.lessons.tour import STEPS


@dataclass
class Tour:
    """Where one visitor stands: the step shown, and the steps whose question is answered."""

    step: int = 0
    solved: list[int] = field(default_factory=list)


def widgets(wanted: Sequence[Control], index: int) -> dict[str, Any]:
    """The widgets of a step by key; two halves share a row."""
    made: dict[str, Any] = {}
    halves = [control for control in wanted if getattr(control, "half", False)]
    for control in wanted:
        if control in halves[1::2]:
            continue
        if control not in halves:
            made[control.key] = _widget(control, index)
            continue
        with gr.Row():
            for half in halves[(place := halves.index(control)) : place + 2]:
                made[half.key] = _widget(half, index)
    return {control.key: made[control.key] for control in wanted}


def _widget(control: Control, index: int) -> Any:
    identity = f"tour-{index + 1}-{control.key}"
    if isinstance(control, Kept):
        return gr.State(control.value)
    if isinstance(control, Slide):
        return gr.Slider(control.low, control.high, value=control.value, step=control.step,
                         label=control.label, elem_id=identity, min_width=120)  # fmt: skip
    assert isinstance(control, Choice)
    kind, room = (gr.Dropdown, 180) if control.many else (gr.Radio, 120)
    return kind(list(control.options), value=control.value, label=control.label, elem_id=identity,
                min_width=room)  # fmt: skip


def names(solved: Sequence[int]) -> list[tuple[str, int]]:
    """The steps as choices; those answered bear a tick."""
    return [
        (f"{'✓' if index in solved else index + 1} {step.name}", index) for index, step in enumerate(STEPS)
    ]


def options(options: Sequence[str]) -> list[tuple[str, int]]:
    """A question's options as choices, numbered."""
    return [(option, index) for index, option in enumerate(options)]


def says(step: Step, index: int, material: Material) -> str:
    """Title, text, and the figure in words."""
    return (
        f"<h2>{index + 1}. {html.escape(step.title)}</h2>{step.says(material)}"
        f"<p class='unseen'>Figure: {html.escape(step.figure)}.</p>"
    )


def notice(step: Step, material: Material, values: dict[str, Any]) -> str:
    """What to notice."""
    return f"<p class='notice'><b>{text.NOTICE}.</b> {html.escape(step.notice(material, values))}</p>"


def position(now: Tour) -> str:
    """Where the visitor stands."""
    line = text.POSITION.format(step=now.step + 1, steps=len(STEPS), solved=len(now.solved))
    return f"<p class='position'>{line}</p>"


def feedback(right: bool | None, said: str) -> str:
    """What is said to an answer: right, wrong, or (None) not given."""
    told = {True: ("right", f"✓ {text.RIGHT}"), False: ("wrong", f"✗ {text.WRONG}"), None: ("", "")}
    kind, lead = told[right]
    return f"<p class='told {kind}' role='status'><b>{lead}</b> {html.escape(said)}</p>"
