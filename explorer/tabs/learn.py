"""Learn: the guided tour. It needs no model: numbers come from the repository, and a question's answer
is computed from what is shown."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from dro.errors import DroError
from explorer import cards
from explorer.events import PRIVATE, QUICK
from explorer.lessons import text
from explorer.lessons.material import Material, load
from explorer.lessons.step import Choice, Control, Kept, Slide, Step, Target
from explorer.lessons.tour import STEPS
from explorer.live_plot import live_plot
from explorer.messages import shown

_PAUSE = 0.25
"""Seconds between the frames of a played run: what the plot can draw without dropping any."""
_PLAYED = next(i for i, step in enumerate(STEPS) if step.name == text.TRAIN_NAME)
_TO_TOP = "() => document.querySelector('#tour-steps')?.scrollIntoView({block: 'nearest'})"


@dataclass
class Tour:
    """Where one visitor stands: the step shown, and the steps whose question is answered."""

    step: int = 0
    solved: list[int] = field(default_factory=list)


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
    tour = gr.State(Tour())
    first = STEPS[0]
    begun = first.start(material)
    steps = gr.Radio(_names([]), value=0, label=text.STEP, elem_id="tour-steps", show_label=False,
                     container=False)  # fmt: skip
    intro = text.INTRO.format(model=html.escape(material.model))
    gr.HTML(f"<p class='quiet'>{intro}</p>", elem_id="tour-intro", padding=False)
    controls: list[dict[str, Any]] = []
    groups: list[gr.Column] = []
    with gr.Row(elem_id="tour"):
        with gr.Column(elem_id="tour-say"):
            says = gr.HTML(_says(first, 0, material), elem_id="tour-says", padding=False)
            for index, step in enumerate(STEPS):
                with gr.Column(visible=index == 0, elem_classes="tour-controls") as group:
                    controls.append(_widgets(step.controls(material), index))
                    if index == _PLAYED:
                        play = gr.Button(text.PLAY, size="sm", elem_id="tour-play")
                groups.append(group)
        with gr.Column(elem_id="tour-picture"):
            plot = live_plot("The figure of this step", first.draw(material, begun).to_json(), 470,
                             elem_id="tour-plot")  # fmt: skip
            notice = gr.HTML(_notice(first, material, begun), elem_id="tour-notice", padding=False)
        with gr.Column(elem_id="tour-ask"):
            asked = first.question(material, begun)
            answers = gr.Radio(_options(asked.options), value=None, label=asked.ask, elem_id="tour-question")
            with gr.Row(elem_id="tour-buttons"):
                check = gr.Button(text.CHECK, variant="primary", elem_id="tour-check", min_width=90)
                tries = gr.Button(text.TRY["explore"], elem_id="tour-try", min_width=150)
            feedback = gr.HTML(elem_id="tour-feedback", padding=False)
            with gr.Row(elem_id="tour-move"):
                back = gr.Button(text.BACK, interactive=False, elem_id="tour-back", min_width=90)
                position = gr.HTML(_position(Tour()), elem_id="tour-position", min_width=140, padding=False)
                onward = gr.Button(text.NEXT, variant="primary", elem_id="tour-next", min_width=90)

    everything = [widget for each in controls for widget in each.values()]
    told = [tour, *everything]
    drawn = [plot, notice, answers, feedback]

    def chosen(now: Tour, values: Sequence[Any], index: int | None = None) -> dict[str, Any]:
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
        ask = gr.Radio(_options(question.options), value=None, label=question.ask)
        return [figure.to_json(), _notice(step, material, values), ask, ""]

    def go(now: Tour, wanted: int, *values: Any) -> list[Any]:
        """Show another step."""
        with shown():
            now.step = min(max(int(wanted), 0), len(STEPS) - 1)
            step, mine = STEPS[now.step], chosen(now, values)
            target = step.target(material, mine)
            return [
                now, gr.Radio(_names(now.solved), value=now.step), _says(step, now.step, material),
                *(gr.Column(visible=index == now.step) for index in range(len(STEPS))),
                *picture(now.step, mine, glide=False), gr.Button(text.TRY[target.tab]), _position(now),
                gr.Button(interactive=now.step > 0), gr.Button(interactive=now.step < len(STEPS) - 1),
            ]  # fmt: skip
        raise AssertionError

    def check_now(now: Tour, picked: int | None, *values: Any) -> list[Any]:
        """Compare the answer with the computed one."""
        step, mine = STEPS[now.step], chosen(now, values)
        question = step.question(material, mine)
        if picked is None:
            return [now, gr.skip(), gr.skip(), _feedback(None, text.CHOOSE), _position(now)]
        if picked != question.right:
            return [now, gr.skip(), gr.skip(), _feedback(False, question.hint), _position(now)]
        now.solved = sorted({*now.solved, now.step})
        plot_json = picture(now.step, mine, glide=True, solved=True)[0]
        names = gr.Radio(_names(now.solved), value=now.step)
        return [now, names, plot_json, _feedback(True, question.why), _position(now)]

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

    def click(event: gr.EventData, now: Tour, *values: Any) -> list[Any]:
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


def _widgets(wanted: Sequence[Control], index: int) -> dict[str, Any]:
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
    kind = gr.Dropdown if control.many else gr.Radio
    return kind(list(control.options), value=control.value, label=control.label, elem_id=identity,
                min_width=120)  # fmt: skip


def _names(solved: Sequence[int]) -> list[tuple[str, int]]:
    return [
        (f"{'✓' if index in solved else index + 1} {step.name}", index) for index, step in enumerate(STEPS)
    ]


def _options(options: Sequence[str]) -> list[tuple[str, int]]:
    return [(option, index) for index, option in enumerate(options)]


def _says(step: Step, index: int, material: Material) -> str:
    return (
        f"<h2>{index + 1}. {html.escape(step.title)}</h2>{step.says(material)}"
        f"<p class='unseen'>Figure: {html.escape(step.figure)}.</p>"
    )


def _notice(step: Step, material: Material, values: dict[str, Any]) -> str:
    return f"<p class='notice'><b>{text.NOTICE}.</b> {html.escape(step.notice(material, values))}</p>"


def _position(now: Tour) -> str:
    solved = len(now.solved)
    line = text.POSITION.format(step=now.step + 1, steps=len(STEPS), solved=solved)
    return f"<p class='position'>{text.FINISHED if solved == len(STEPS) else line}</p>"


def _feedback(right: bool | None, said: str) -> str:
    told = {True: ("right", f"✓ {text.RIGHT}"), False: ("wrong", f"✗ {text.WRONG}"), None: ("", "")}
    kind, lead = told[right]
    return f"<p class='told {kind}' role='status'><b>{lead}</b> {html.escape(said)}</p>"
