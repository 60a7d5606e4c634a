"""Learn: the guided tour. It needs no model: numbers come from the repository, and a question's answer
is computed from what is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dro.errors import DroError
from explorer import cards
from explorer.events import PRIVATE, QUICK
from explorer.lessons import text
from explorer.lessons.material import load
from explorer.lessons.step import Target
from explorer.lessons.tour import STEPS
from explorer.live_plot import live_plot
from explorer.messages import shown
from explorer.tabs import tour_parts as parts

_PAUSE = 0.25
"""Seconds between the frames of a played run: what the plot can draw without dropping any."""
_PLAYED = next(i for i, step in enumerate(STEPS) if step.name == text.TRAIN_NAME)
_TO_TOP = "() => document.querySelector('#tour-steps')?.scrollIntoView({block: 'nearest'})"


@dataclass(frozen=True)
class Learn:
    """What the page wires to other tabs. told: inputs of `target`."""

    tries: gr.Button
    told: list[Any]
    target: Callable[..., Target]


def build() -> Learn | None:
    """Lay out and wire the tab; None where its recording cannot be read, which the tab then says."""
    try:
        material = load()
    except DroError as error:
        gr.HTML(cards.quiet(str(error)))
        return None
    tour = gr.State(parts.Tour())
    first = STEPS[0]
    begun = first.start(material)
    steps = gr.Radio(parts.names([]), value=0, label=text.STEP, elem_id="tour-steps", show_label=False,
                     container=False)  # fmt: skip
    controls: list[dict[str, Any]] = []
    groups: list[gr.Column] = []
    with gr.Row(elem_id="tour"):
        with gr.Column(elem_id="tour-say"):
            says = gr.HTML(parts.says(first, 0, material), elem_id="tour-says", padding=False)
            for index, step in enumerate(STEPS):
                with gr.Column(visible=index == 0, elem_classes="tour-controls") as group:
                    controls.append(parts.widgets(step.controls(material), index))
                    if index == _PLAYED:
                        play = gr.Button(text.PLAY, size="sm", elem_id="tour-play")
                groups.append(group)
        with gr.Column(elem_id="tour-picture"):
            plot = live_plot("The figure of this step", first.draw(material, begun).to_json(), 470,
                             elem_id="tour-plot")  # fmt: skip
            notice = gr.HTML(parts.notice(first, material, begun), elem_id="tour-notice", padding=False)
        with gr.Column(elem_id="tour-ask"):
            asked = first.question(material, begun)
            answers = gr.Radio(
                parts.options(asked.options), value=None, label=asked.ask, elem_id="tour-question"
            )
            with gr.Row(elem_id="tour-buttons"):
                check = gr.Button(text.CHECK, variant="primary", elem_id="tour-check", min_width=90)
                tries = gr.Button(text.TRY["explore"], elem_id="tour-try", min_width=150)
            feedback = gr.HTML(elem_id="tour-feedback", padding=False)
            with gr.Row(elem_id="tour-move"):
                back = gr.Button(text.BACK, interactive=False, elem_id="tour-back", min_width=70)
                position = gr.HTML(
                    parts.position(parts.Tour()), elem_id="tour-position", min_width=140, padding=False
                )
                onward = gr.Button(text.NEXT, variant="primary", elem_id="tour-next", min_width=70)

    everything = [widget for each in controls for widget in each.values()]
    told = [tour, *everything]
    drawn = [plot, notice, answers, feedback]

    def chosen(now: parts.Tour, values: Sequence[Any], index: int | None = None) -> dict[str, Any]:
        """The values of a step's controls out of all that were sent."""
        index = now.step if index is None else index
        start = sum(len(each) for each in controls[:index])
        return dict(zip(controls[index], values[start : start + len(controls[index])], strict=True))

    def picture(index: int, values: dict[str, Any], glide: bool, solved: bool = False) -> list[Any]:
        """Plot, notice, question and an empty feedback."""
        step = STEPS[index]
        figure = step.draw(material, {**values, "solved": solved})
        if not glide:
            figure.update_layout(transition=None)
        question = step.question(material, values)
        ask = gr.Radio(parts.options(question.options), value=None, label=question.ask)
        return [figure.to_json(), parts.notice(step, material, values), ask, ""]

    def go(now: parts.Tour, wanted: int, *values: Any) -> list[Any]:
        """Show another step."""
        with shown():
            now.step = min(max(int(wanted), 0), len(STEPS) - 1)
            step, mine = STEPS[now.step], chosen(now, values)
            target = step.target(material, mine)
            return [
                now, gr.Radio(parts.names(now.solved), value=now.step), parts.says(step, now.step, material),
                *(gr.Column(visible=index == now.step) for index in range(len(STEPS))),
                *picture(now.step, mine, glide=False), gr.Button(text.TRY[target.tab]), parts.position(now),
                gr.Button(interactive=now.step > 0), gr.Button(interactive=now.step < len(STEPS) - 1),
            ]  # fmt: skip
        raise AssertionError

    def check_now(now: parts.Tour, picked: int | None, *values: Any) -> list[Any]:
        """Compare the answer with the computed one."""
        with shown():
            return checked(now, picked, chosen(now, values))
        raise AssertionError

    def checked(now: parts.Tour, picked: int | None, mine: dict[str, Any]) -> list[Any]:
        question = STEPS[now.step].question(material, mine)
        if picked is None:
            return [now, gr.skip(), gr.skip(), parts.feedback(None, text.CHOOSE), parts.position(now)]
        if picked != question.right:
            return [now, gr.skip(), gr.skip(), parts.feedback(False, question.hint), parts.position(now)]
        now.solved = sorted({*now.solved, now.step})
        said = question.why + (f" {text.FINISHED}" if len(now.solved) == len(STEPS) else "")
        plot_json = picture(now.step, mine, glide=True, solved=True)[0]
        names = gr.Radio(parts.names(now.solved), value=now.step)
        return [now, names, plot_json, parts.feedback(True, said), parts.position(now)]

    def changed(index: int, key: str) -> Callable[..., list[Any]]:
        def follow(*values: Any) -> list[Any]:
            with shown():
                mine = dict(zip(controls[index], values, strict=True))
                return settled(index, mine, STEPS[index].follow(key, mine))
            raise AssertionError

        return follow

    def settled(index: int, values: dict[str, Any], new: dict[str, Any]) -> list[Any]:
        """A step's widgets and its picture after some values were changed by others."""
        return [
            *(new.get(name, gr.skip()) for name in controls[index]),
            *picture(index, values | new, glide=True),
        ]

    def click(event: gr.EventData, now: parts.Tour, *values: Any) -> list[Any]:
        """A point of the figure was clicked."""
        with shown():
            data = event._data.get("customdata") if isinstance(event._data, dict) else None
            mine = chosen(now, values)
            new = STEPS[now.step].click(data, mine)
            flat = [gr.skip()] * len(everything)
            if not new:
                return [*flat, *[gr.skip()] * len(drawn)]
            start = sum(len(each) for each in controls[: now.step])
            told = settled(now.step, mine, new)
            flat[start : start + len(mine)] = told[: len(mine)]
            return [*flat, *told[len(mine) :]]
        raise AssertionError

    def played(*values: Any) -> Iterator[list[Any]]:
        """Frame after frame, from the start."""
        mine = dict(zip(controls[_PLAYED], values, strict=True))
        for step in range(material.run.steps + 1):
            yield [step, *picture(_PLAYED, mine | {"step": step}, glide=True)]
            time.sleep(_PAUSE)

    moved = [tour, steps, says, *groups, *drawn, tries, position, back, onward]
    playing = play.click(
        played, list(controls[_PLAYED].values()), [controls[_PLAYED]["step"], *drawn],
        concurrency_limit=16, **PRIVATE,
    )  # fmt: skip
    moves: list[Any] = [steps.input, back.click, onward.click]
    wanted = [
        lambda now, step, *values: go(now, step, *values),
        lambda now, _, *values: go(now, now.step - 1, *values),
        lambda now, _, *values: go(now, now.step + 1, *values),
    ]
    for event, function in zip(moves, wanted, strict=True):
        event(function, [tour, steps, *everything], moved, **QUICK).then(None, js=_TO_TOP, **QUICK)
    check.click(check_now, [tour, answers, *everything], [tour, steps, plot, feedback, position], **QUICK)
    stops = [*moves, check.click]
    for index, widgets in enumerate(controls):
        for key, widget in widgets.items():
            if isinstance(widget, gr.State):
                continue
            stops += [widget.input] if index == _PLAYED else []
            widget.input(changed(index, key), list(widgets.values()), [*widgets.values(), *drawn],
                         trigger_mode="always_last", **QUICK)  # fmt: skip
    gr.on(stops, None, cancels=[playing], **QUICK)
    plot.point_click(click, told, [*everything, *drawn], **QUICK)
    return Learn(tries, told, lambda now, *values: STEPS[now.step].target(material, chosen(now, values)))
